package host

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Names of our nft tables, of family inet.
const (
	tableNode        = "meshcrypt"
	tableNodeFence   = "meshcrypt_fence"
	tableClient      = "meshcrypt_client"
	tableClientFence = "meshcrypt_client_fence"
)

// ownTables are all of them.
var ownTables = []string{tableNode, tableNodeFence, tableClient, tableClientFence}

// rule is what one filter rule matches and does, in order. It is built of the
// small pieces below.
type rule []expr.Any

// chain is a base chain with all its rules.
type chain struct {
	name     string
	kind     nftables.ChainType
	hook     *nftables.ChainHook
	priority *nftables.ChainPriority
	rules    []rule
}

// fill replaces the rules of the chain, and makes it if it is not there.
func (ch chain) fill(c *nftables.Conn, table *nftables.Table) {
	added := c.AddChain(&nftables.Chain{
		Name: ch.name, Table: table, Type: ch.kind, Hooknum: ch.hook, Priority: ch.priority,
	})
	c.FlushChain(added)
	for _, r := range ch.rules {
		c.AddRule(&nftables.Rule{Table: table, Chain: added, Exprs: r})
	}
}

const filterNext = "the kernel must have nf_tables: try `modprobe nf_tables nf_conntrack`"

// uninstall removes our table if it is there.
func uninstall(name string) error {
	c, err := nftables.New()
	if err != nil {
		return failed(err, filterNext, "open the packet filter")
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	c.DelTable(table)
	if err := c.Flush(); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return failed(err, "try `nft delete table inet "+name+"`", "remove the nft table %s", name)
	}
	return nil
}

// of joins pieces to a rule.
func of(pieces ...[]expr.Any) rule { return slices.Concat(pieces...) }

func meta(key expr.MetaKey, op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: key, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: data},
	}
}

// ifname is an interface name as the kernel compares it.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func from(dev string) []expr.Any {
	return meta(expr.MetaKeyIIFNAME, expr.CmpOpEq, ifname(dev))
}

func notFrom(dev string) []expr.Any {
	return meta(expr.MetaKeyIIFNAME, expr.CmpOpNeq, ifname(dev))
}

func via(dev string) []expr.Any {
	return meta(expr.MetaKeyOIFNAME, expr.CmpOpEq, ifname(dev))
}

// source and target match an address in p.
func source(p netip.Prefix) []expr.Any { return address(p, true) }
func target(p netip.Prefix) []expr.Any { return address(p, false) }

func address(p netip.Prefix, source bool) []expr.Any {
	length := uint32(p.Addr().BitLen() / 8)
	proto, offset := byte(unix.NFPROTO_IPV4), uint32(12)
	if p.Addr().Is6() {
		proto, offset = unix.NFPROTO_IPV6, 8
	}
	if !source {
		offset += length
	}
	mask := net.CIDRMask(p.Bits(), p.Addr().BitLen())
	return append(meta(expr.MetaKeyNFPROTO, expr.CmpOpEq, []byte{proto}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: length, Mask: mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()})
}

// fromPort and toPort match a UDP port.
func fromPort(port uint16) []expr.Any { return udp(port, 0) }
func toPort(port uint16) []expr.Any   { return udp(port, 2) }

func udp(port uint16, offset uint32) []expr.Any {
	return append(meta(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{unix.IPPROTO_UDP}),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.BigEndian.AppendUint16(nil, port)})
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

// drop counts what it drops, for `nft list table`.
func drop() []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

func notrack() []expr.Any { return []expr.Any{&expr.Notrack{}} }

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

// translate gives packets another source address, and a port of the kernel's
// choice where theirs is taken.
func translate(to netip.Addr) []expr.Any {
	family := uint32(unix.NFPROTO_IPV4)
	if to.Is6() {
		family = unix.NFPROTO_IPV6
	}
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: family, RegAddrMin: 1},
	}
}

// translateOff gives packets from a port another source address and another port, of
// the half in which that one and its neighbours are not. It names the address, for a
// masquerade to ports leaves TestMasqueradedPortsAreAnswered without answers.
func translateOff(to netip.Addr, port uint16) []expr.Any {
	least, most := uint16(1<<15), uint16(1<<16-1)
	if port >= least-16 {
		least, most = 1024, least-32
	}
	all := translate(to)
	nat := all[len(all)-1].(*expr.NAT)
	nat.RegProtoMin, nat.RegProtoMax, nat.Specified = 2, 3, true
	return []expr.Any{
		all[0],
		&expr.Immediate{Register: 2, Data: binary.BigEndian.AppendUint16(nil, least)},
		&expr.Immediate{Register: 3, Data: binary.BigEndian.AppendUint16(nil, most)},
		nat,
	}
}

// rememberMark puts a packet's mark on its connection, recallMark back.
func rememberMark(mark uint32) []expr.Any {
	return append(meta(expr.MetaKeyMARK, expr.CmpOpEq, native(mark)),
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true})
}

func recallMark(mark uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: native(mark)},
		&expr.Meta{Key: expr.MetaKeyMARK, Register: 1, SourceRegister: true},
	}
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
