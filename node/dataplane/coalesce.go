package dataplane

import (
	"bytes"
	"encoding/binary"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

// coalescer joins consecutive packets of one flow into one super-packet, so
// that the host's stack meets one instead of many. It keeps one group, points
// into its worker's buffer and copies no payload. Whatever cannot be told
// apart from what the sender's own card would have cut is joined; all else
// goes through as it came.
type coalescer struct {
	ledger *ledger
	queue  tun.Queue
	uso    bool

	vnet     [tun.HeaderLen]byte
	pieces   [][]byte // the header, the first packet whole, then payloads
	count    int      // packets in the group
	open     bool     // more may join
	verified bool     // the first packet's checksum
	headers  int      // bytes of headers of each packet
	size     int      // payload bytes of each but the last
	total    int      // bytes of the super-packet
	first    inner
}

func newCoalescer(l *ledger, q tun.Queue, uso bool) coalescer {
	return coalescer{ledger: l, queue: q, uso: uso, pieces: make([][]byte, 1, MaxCoalesced+1)}
}

// add takes one admitted packet, which must stay untouched until flush.
func (c *coalescer) add(p []byte, in *inner) {
	if c.open && c.join(p, in) {
		return
	}
	c.flush()
	c.start(p, in)
}

// start makes p a group of its own.
func (c *coalescer) start(p []byte, in *inner) {
	c.pieces = append(c.pieces[:1], p)
	c.count, c.total, c.verified = 1, len(p), false
	c.headers = c.headersOf(p, in)
	c.size = len(p) - c.headers
	c.open = c.headers > 0 && c.size > 0 && !pushes(p, in)
	if c.open {
		c.first = *in
	}
}

// headersOf is the length of all headers of a packet that may be joined to
// others; 0 if it may not: options of IPv4, fragments, a flag that means something
// by itself. Extension headers may stand there if they are the same in each.
func (c *coalescer) headersOf(p []byte, in *inner) int {
	if in.fragment || !in.v6 && in.header != ipv4HeaderLen {
		return 0
	}
	t := p[in.header:]
	switch {
	case in.proto == protoTCP && len(t) >= tcpHeaderLen:
		n := int(t[12]>>4) * 4
		if n < tcpHeaderLen || n > len(t) || t[13]&^(flagPSH|flagECE) != flagACK {
			return 0
		}
		return in.header + n
	case in.proto == protoUDP && c.uso && len(t) > udpHeaderLen:
		whole := int(binary.BigEndian.Uint16(t[4:])) == len(t)
		if !whole || t[udpChecksum] == 0 && t[udpChecksum+1] == 0 {
			return 0
		}
		return in.header + udpHeaderLen
	}
	return 0
}

// pushes reports a TCP segment that ends a run by its PSH flag.
func pushes(p []byte, in *inner) bool {
	return in.proto == protoTCP && p[in.header+13]&flagPSH != 0
}

// join appends p to the group if it is what follows there.
func (c *coalescer) join(p []byte, in *inner) bool {
	payload := len(p) - c.headers
	if payload <= 0 || payload > c.size || c.count == MaxCoalesced ||
		c.total+payload > tun.MaxPacket || c.headersOf(p, in) != c.headers {
		return false
	}
	if !c.sameNetwork(p, in) || !c.sameTransport(p, in) || !c.sound(p, in) {
		return false
	}
	c.pieces = append(c.pieces, p[c.headers:])
	c.count++
	c.total += payload
	if pushes(p, in) {
		c.pieces[1][c.first.header+13] |= flagPSH
		c.open = false
	}
	if payload < c.size {
		c.open = false
	}
	return true
}

// sameNetwork compares the fields of the IP headers. Where fragmenting is
// allowed the identification must count up; where it is not, it has no
// meaning (RFC 6864).
func (c *coalescer) sameNetwork(p []byte, in *inner) bool {
	f := c.pieces[1]
	if in.v6 != c.first.v6 || in.proto != c.first.proto {
		return false
	}
	if in.v6 {
		return bytes.Equal(p[:4], f[:4]) && bytes.Equal(p[6:in.header], f[6:c.first.header])
	}
	if p[1] != f[1] || p[6] != f[6] || p[8] != f[8] || !bytes.Equal(p[12:20], f[12:20]) {
		return false
	}
	const dontFragment = 0x40
	id := binary.BigEndian.Uint16(f[4:]) + uint16(c.count)
	return p[6]&dontFragment != 0 || binary.BigEndian.Uint16(p[4:]) == id
}

// sameTransport compares ports and, in TCP, everything but the checksum and
// PSH; the sequence number must be the next one.
func (c *coalescer) sameTransport(p []byte, in *inner) bool {
	t, f := p[in.header:c.headers], c.pieces[1][in.header:c.headers]
	if !bytes.Equal(t[:4], f[:4]) {
		return false
	}
	if in.proto == protoUDP {
		return true
	}
	next := binary.BigEndian.Uint32(f[4:]) + uint32(c.total-c.headers)
	return binary.BigEndian.Uint32(t[4:]) == next &&
		bytes.Equal(t[8:13], f[8:13]) && t[13]&^flagPSH == f[13]&^flagPSH &&
		bytes.Equal(t[14:16], f[14:16]) && bytes.Equal(t[18:], f[18:])
}

// sound verifies the checksums of p and, once, of the first packet: the
// super-packet is written as if its checksum was never made, so a wrong one
// would be made right.
func (c *coalescer) sound(p []byte, in *inner) bool {
	if !c.verified {
		if !checks(c.pieces[1], &c.first) {
			c.open = false
			return false
		}
		c.verified = true
	}
	return checks(p, in)
}

// checks verifies a packet's IP and transport checksums.
func checks(p []byte, in *inner) bool {
	if !in.v6 && fold(sumTail(p[:in.header], 0)) != 0xffff {
		return false
	}
	t := p[in.header:]
	return fold(sum(t, add(in.pseudo(p), word(uint16(len(t)))))) == 0xffff
}

// flush writes the group, if there is one.
func (c *coalescer) flush() {
	if c.count == 0 {
		return
	}
	n := c.count
	c.count, c.open = 0, false
	c.head(n)
	if err := c.queue.Write(c.pieces); err != nil {
		c.ledger.fail(DropWriteTUN, n)
		return
	}
	c.ledger.deliver(PortTUN, n)
}

// head makes the header the group is written with. A single packet goes as it
// came: the host verifies its checksum itself.
func (c *coalescer) head(n int) {
	c.pieces[0] = c.vnet[:]
	if n == 1 {
		tun.VnetHeader{}.Encode(c.vnet[:])
		return
	}
	p, start := c.pieces[1], c.first.header
	h := tun.VnetHeader{
		Flags: tun.FlagNeedsCsum, HdrLen: uint16(c.headers), GSOSize: uint16(c.size),
		CsumStart: uint16(start), CsumOffset: tcpChecksum,
	}
	switch {
	case c.first.proto == protoUDP:
		h.GSOType, h.CsumOffset = tun.GSOUDPL4, udpChecksum
		binary.BigEndian.PutUint16(p[start+4:], uint16(c.total-start))
	case c.first.v6:
		h.GSOType = tun.GSOTCPv6
	default:
		h.GSOType = tun.GSOTCPv4
	}
	h.Encode(c.vnet[:])
	c.lengthen(p)
	store(p[start+int(h.CsumOffset):],
		fold(add(c.first.pseudo(p), word(uint16(c.total-start)))))
}

// lengthen gives the first packet's IP header the length of the super-packet.
func (c *coalescer) lengthen(p []byte) {
	if c.first.v6 {
		binary.BigEndian.PutUint16(p[4:], uint16(c.total-ipv6HeaderLen))
		return
	}
	binary.BigEndian.PutUint16(p[2:], uint16(c.total))
	fixIPv4Checksum(p[:c.first.header])
}
