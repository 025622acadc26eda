package host

import (
	"bytes"
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// fate is what a foreign chain does with a packet.
type fate int

const (
	fatePass fate = iota
	fateDrop
	fateUnsure // it depends on what is not looked at here
)

// forwarded is a packet that this host is to forward, as far as it matters.
type forwarded struct {
	from, to string // interfaces
	six      bool
	tracked  bool
}

// ctUntracked is the state of what connection tracking leaves alone.
const ctUntracked = 64

// walk follows a packet through the rules of one base chain. Rules about what
// is not known of the packet leave its fate open, unless it is dropped before.
type walk struct {
	packet forwarded
	rules  map[string][]*nftables.Rule // by chain, of one table
	unsure bool
}

// chain gives the chain's verdict, or fateUnsure with ok false if it returns.
func (w *walk) chain(name string, depth int) (f fate, ok bool) {
	if depth > maxJumps {
		return fateUnsure, true
	}
	for _, r := range w.rules[name] {
		match, v := w.rule(r.Exprs)
		if v == nil || match == never {
			continue
		}
		switch v.Kind {
		case expr.VerdictJump, expr.VerdictGoto:
			if match == perhaps {
				w.unsure = true
				continue
			}
			f, ok := w.chain(v.Chain, depth+1)
			if ok || v.Kind == expr.VerdictGoto {
				return f, ok
			}
		case expr.VerdictReturn:
			if match == perhaps {
				w.unsure = true
				continue
			}
			return fateUnsure, false
		case expr.VerdictDrop:
			if match == always {
				return w.dropped(), true
			}
		case expr.VerdictContinue, expr.VerdictBreak:
		default: // accepted, queued, stolen
			if match == always {
				return fatePass, true
			}
			w.unsure = true
		}
	}
	return fateUnsure, false
}

// dropped is the fate of a packet that meets a drop.
func (w *walk) dropped() fate {
	if w.unsure {
		return fateUnsure
	}
	return fateDrop
}

type match int

const (
	always match = iota
	perhaps
	never
)

// rule says whether the rule is about the packet, and what it then does.
func (w *walk) rule(exprs []expr.Any) (m match, v *expr.Verdict) {
	registers := map[uint32][]byte{} // what is known; nil is unknown
	for _, e := range exprs {
		switch e := e.(type) {
		case *expr.Meta:
			if !e.SourceRegister {
				registers[e.Register] = w.meta(e.Key)
			}
		case *expr.Ct:
			if !e.SourceRegister {
				registers[e.Register] = w.ct(e.Key)
			}
		case *expr.Bitwise:
			registers[e.DestRegister] = masked(registers[e.SourceRegister], e.Mask, e.Xor)
		case *expr.Cmp:
			if m = compare(m, registers[e.Register], e); m == never {
				return never, nil
			}
		case *expr.Verdict:
			v = e
		case *expr.Reject:
			v = &expr.Verdict{Kind: expr.VerdictDrop}
		case *expr.Counter, *expr.Log:
		default:
			m = perhaps
		}
	}
	return m, v
}

func (w *walk) meta(key expr.MetaKey) []byte {
	switch key {
	case expr.MetaKeyIIFNAME:
		return ifname(w.packet.from)
	case expr.MetaKeyOIFNAME:
		return ifname(w.packet.to)
	case expr.MetaKeyNFPROTO:
		if w.packet.six {
			return []byte{byte(nftables.TableFamilyIPv6)}
		}
		return []byte{byte(nftables.TableFamilyIPv4)}
	}
	return nil
}

func (w *walk) ct(key expr.CtKey) []byte {
	if key == expr.CtKeySTATE && !w.packet.tracked {
		return binary.NativeEndian.AppendUint32(nil, ctUntracked)
	}
	return nil
}

func masked(value, mask, xor []byte) []byte {
	if value == nil || len(mask) > len(value) || len(xor) < len(mask) {
		return nil
	}
	out := make([]byte, len(mask))
	for i := range mask {
		out[i] = value[i]&mask[i] ^ xor[i]
	}
	return out
}

// compare narrows a match by one comparison; a name that ends in a star is
// compared as far as it goes.
func compare(m match, value []byte, c *expr.Cmp) match {
	if value == nil || len(c.Data) > len(value) || c.Op != expr.CmpOpEq && c.Op != expr.CmpOpNeq {
		return perhaps
	}
	if bytes.Equal(value[:len(c.Data)], c.Data) != (c.Op == expr.CmpOpEq) {
		return never
	}
	return m
}
