package dataplane

import (
	"encoding/binary"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// A packet that one datagram of its pair does not carry meets send: above the
// session's MTU it is refused where it must not be fragmented, and fragmented
// otherwise; up to it, it goes in two datagrams (halves.go).

// SetSizes sets the session's MTU and the largest inner packet that one
// datagram of this pair carries, as far as they make sense: a client names them.
// Before, both are pmtu.Legacy.
func (p *Pair) SetSizes(mtu, limit int) {
	mtu, limit = min(max(mtu, pmtu.MinMTU), MaxPadded), min(max(limit, MinLimit), MaxPadded)
	p.sizes.Store(uint32(mtu)<<16 | uint32(limit))
}

// Sizes returns what SetSizes set.
func (p *Pair) Sizes() (mtu, limit int) {
	if v := p.sizes.Load(); v != 0 {
		return int(v >> 16), int(v & 0xffff)
	}
	return pmtu.Legacy, pmtu.Legacy
}

// oversize is what a sealing worker needs for packets that are too large. It is
// owned by its worker; the buffers are made when first needed.
type oversize struct {
	ledger   *ledger
	batch    *batch    // pieces leave by it
	queue    tun.Queue // of refusals, at a client and where an agent delivers itself
	refusals bucket
	packet   []byte // one cut out of a run
	pieces   []byte // of one packet, behind one another
	vnet     [tun.HeaderLen]byte
}

// room is where a run's next packet is cut to.
func (v *oversize) room() []byte {
	if v.packet == nil {
		v.packet = make([]byte, tun.MaxPacket)
		v.pieces = make([]byte, 2*tun.MaxPacket)
		if v.batch.slab == nil {
			v.batch.slab = make([]byte, slabBytes)
		}
	}
	return v.packet
}

// send puts the pieces of one packet into the batch and sends them. A reason
// counts for the packet.
func (v *oversize) send(p *Pair, way *way, packet []byte, in *inner, now int64) Reason {
	mtu, limit := p.Sizes()
	v.room()
	switch {
	case in.total <= mtu && partHeader+(in.total+1)/2 <= limit:
		v.halve(p, way, packet, in)
	case refusable(packet, in):
		if in.total > mtu && v.refusals.spend(now) {
			v.refuse(p, packet, in, mtu, now)
		}
		return DropTooBig
	default:
		return v.fragments(p, way, packet, in, min(mtu, limit))
	}
	return Pass
}

// refusable says that routers must not fragment the packet.
func refusable(packet []byte, in *inner) bool { return in.v6 || packet[6]&flagDF != 0 }

// refuse tells the packet's sender how much would have been possible. It speaks
// in the name of the host that the packet was for, an address that is routed
// and admitted on this way wherever the sender is, also behind a NAT.
func (v *oversize) refuse(p *Pair, packet []byte, in *inner, mtu int, now int64) {
	answer := tooBig(v.pieces, packet, in, mtu)
	if answer == nil {
		return
	}
	if to := p.Onward(in.v6); to != nil {
		if d := to.datagram(answer, now); d != nil {
			_ = to.Socket.Send(d, len(d), to.Path) // a lost refusal looks like a lost packet
		}
		return
	}
	tun.VnetHeader{}.Encode(v.vnet[:])
	_ = v.queue.Write([][]byte{v.vnet[:], answer}) // the same
}

// fragments sends a packet in pieces of at most so many bytes.
func (v *oversize) fragments(p *Pair, way *way, packet []byte, in *inner, most int) Reason {
	v.batch.flush()
	used, sent := 0, 0
	for f := newFragmenter(packet, in, most); f.more(); sent++ {
		n := f.cut(v.pieces[used:])
		if n == 0 {
			return DropTooBig // headers alone do not fit
		}
		if sent > 0 {
			v.ledger.take(PortPiece, 1)
		}
		v.ledger.decide(1)
		v.batch.add(p, way, v.pieces[used:used+n:used+n], esp.NextIPv4, in.tos)
		used += n
	}
	v.batch.flush()
	return Pass
}

// clampMSS lowers the MSS that a SYN offers, so that segments of the other end
// fit into an inner packet of so many bytes.
func clampMSS(packet []byte, in *inner, most int) {
	if in.proto != protoTCP || in.fragment || len(packet) < in.header+tcpHeaderLen || packet[in.header+13]&flagSYN == 0 {
		return
	}
	t := packet[in.header:]
	at := findMSS(t[:max(tcpHeaderLen, min(int(t[12]>>4)*4, len(t)))])
	if at == 0 {
		return
	}
	network := ipv4HeaderLen
	if in.v6 {
		network = ipv6HeaderLen
	}
	old, most16 := binary.BigEndian.Uint16(t[at:]), uint16(most-network-tcpHeaderLen)
	if old > most16 {
		binary.BigEndian.PutUint16(t[at:], most16)
		fixChecksum(t[tcpChecksum:], old, most16, at%2 != 0)
	}
}

// findMSS gives the place of the MSS in a TCP header; 0 when it has none.
func findMSS(header []byte) int {
	const end, nothing, kindMSS, lenMSS = 0, 1, 2, 4
	for at := tcpHeaderLen; at < len(header) && header[at] != end; {
		if header[at] == nothing {
			at++
			continue
		}
		if at+1 >= len(header) || header[at+1] < 2 || at+int(header[at+1]) > len(header) {
			return 0
		}
		if header[at] == kindMSS && header[at+1] == lenMSS {
			return at + 2
		}
		at += int(header[at+1])
	}
	return 0
}

// fixChecksum corrects a checksum for a word that changed (RFC 1624); odd says
// that it stands across two words of the sum.
func fixChecksum(checksum []byte, old, new uint16, odd bool) {
	if odd {
		old, new = old<<8|old>>8, new<<8|new>>8
	}
	s := uint32(^binary.BigEndian.Uint16(checksum)) + uint32(^old) + uint32(new)
	s = s>>16 + s&0xffff
	binary.BigEndian.PutUint16(checksum, ^uint16(s>>16+s))
}
