package registry

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/netip"
	"strconv"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// pen writes JSON into one piece of memory, which is taken again for each row. What there may
// be thousands of it writes by hand, byte for byte as encoding/json does (TestRowsAreAsJSON):
// that makes a string of each id, and a copy of each row.
type pen struct {
	raw  []byte
	json *json.Encoder
	err  error // the first one
}

func newPen(room int) *pen {
	p := &pen{raw: make([]byte, 0, room)}
	p.json = json.NewEncoder(p)
	return p
}

// Write takes what encoding/json says of a value.
func (p *pen) Write(raw []byte) (int, error) {
	p.raw = append(p.raw, raw...)
	return len(raw), nil
}

// value writes anything, by encoding/json.
func (p *pen) value(v any) {
	if p.err != nil {
		return
	}
	if p.err = p.json.Encode(v); p.err == nil {
		p.raw = p.raw[:len(p.raw)-1] // a line's end
	}
}

func (p *pen) say(text string) { p.raw = append(p.raw, text...) }

// text writes a string. Those that are not plain are rare.
func (p *pen) text(text string) {
	if !plainText(text) {
		p.value(text)
		return
	}
	p.raw = append(p.raw, '"')
	p.raw = append(p.raw, text...)
	p.raw = append(p.raw, '"')
}

// plainText reports whether all of a text stands in JSON as it is.
func plainText(text string) bool {
	for i := range len(text) {
		switch c := text[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

func (p *pen) hex(id []byte) {
	p.raw = append(p.raw, '"')
	p.raw = hex.AppendEncode(p.raw, id)
	p.raw = append(p.raw, '"')
}

func (p *pen) node(id identity.NodeID) {
	p.raw = append(p.raw, '"')
	p.raw, _ = id.AppendText(p.raw) // it has no error
	p.raw = append(p.raw, '"')
}

func (p *pen) bytes(b []byte) {
	if b == nil {
		p.say("null")
		return
	}
	p.raw = append(p.raw, '"')
	p.raw = base64.StdEncoding.AppendEncode(p.raw, b)
	p.raw = append(p.raw, '"')
}

func (p *pen) address(a *netip.Addr) {
	if a.Zone() != "" { // which may be any text
		p.text(addressText(*a))
		return
	}
	p.raw = append(p.raw, '"')
	p.raw = a.AppendTo(p.raw)
	p.raw = append(p.raw, '"')
}

func (p *pen) prefix(is *netip.Prefix) {
	p.raw = append(p.raw, '"')
	p.raw = is.AppendTo(p.raw)
	p.raw = append(p.raw, '"')
}

func (p *pen) number(n uint64) { p.raw = strconv.AppendUint(p.raw, n, 10) }
func (p *pen) signed(n int64)  { p.raw = strconv.AppendInt(p.raw, n, 10) }
func (p *pen) flag(is bool)    { p.raw = strconv.AppendBool(p.raw, is) }

// list writes each of a list by itself.
func list[T any](p *pen, all []T, row func(*pen, *T)) {
	if all == nil {
		p.say("null")
		return
	}
	p.say("[")
	for i := range all {
		if i > 0 {
			p.say(",")
		}
		row(p, &all[i])
	}
	p.say("]")
}
