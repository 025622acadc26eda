package dataplane

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// Numbers of ICMP (RFC 792, RFC 1191, RFC 4443).
const (
	protoICMP   = 1
	protoICMPv6 = 58

	icmpHeaderLen = 8
	// The largest answers that pass everywhere (RFC 1812 4.3.2.3, RFC 4443 2.4 c).
	maxRefusalIPv4 = 576
	maxRefusalIPv6 = 1280
)

// tooBig writes the ICMP message that says how large a packet may be, and
// quotes the packet; nil where an error must not be answered (RFC 1122 3.2.2,
// RFC 4443 2.4 e).
func tooBig(dst, packet []byte, in *inner, mtu int) []byte {
	if !answerable(packet, in) {
		return nil
	}
	if in.v6 {
		return tooBigIPv6(dst, packet[:in.total], mtu)
	}
	return tooBigIPv4(dst, packet[:in.total], mtu)
}

func tooBigIPv4(dst, packet []byte, mtu int) []byte {
	quoted := min(len(packet), maxRefusalIPv4-ipv4HeaderLen-icmpHeaderLen)
	b := dst[:ipv4HeaderLen+icmpHeaderLen+quoted]
	clear(b[:ipv4HeaderLen+icmpHeaderLen])
	b[0], b[8], b[9] = 0x45, 64, protoICMP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:16], packet[16:20])
	copy(b[16:20], packet[12:16])
	fixIPv4Checksum(b[:ipv4HeaderLen])
	m := b[ipv4HeaderLen:]
	m[0], m[1] = 3, 4 // destination unreachable, fragmentation needed
	binary.BigEndian.PutUint16(m[6:], uint16(mtu))
	copy(m[icmpHeaderLen:], packet)
	store(m[2:], ^fold(sum(m, 0)))
	return b
}

func tooBigIPv6(dst, packet []byte, mtu int) []byte {
	quoted := min(len(packet), maxRefusalIPv6-ipv6HeaderLen-icmpHeaderLen)
	b := dst[:ipv6HeaderLen+icmpHeaderLen+quoted]
	clear(b[:ipv6HeaderLen+icmpHeaderLen])
	b[0], b[6], b[7] = 0x60, protoICMPv6, 64
	binary.BigEndian.PutUint16(b[4:], uint16(icmpHeaderLen+quoted))
	copy(b[8:24], packet[24:40])
	copy(b[24:40], packet[8:24])
	m := b[ipv6HeaderLen:]
	m[0] = 2 // packet too big
	binary.BigEndian.PutUint32(m[4:], uint32(mtu))
	copy(m[icmpHeaderLen:], packet)
	pseudo := sum(b[8:40], add(word(protoICMPv6), word(uint16(len(m)))))
	store(m[2:], ^fold(sum(m, pseudo)))
	return b
}

// answerable tells what may be answered by an ICMP error: no error, no fragment
// but the first, nothing from or to more or less than one host.
func answerable(packet []byte, in *inner) bool {
	if !unicast(in.src) || !unicast(in.dst) {
		return false
	}
	if in.v6 {
		return in.proto != protoICMPv6 || len(packet) > in.header && packet[in.header] >= 128
	}
	if binary.BigEndian.Uint16(packet[6:])&maskOffset != 0 {
		return false
	}
	if in.proto != protoICMP || len(packet) <= in.header {
		return true
	}
	switch packet[in.header] {
	case 3, 4, 5, 11, 12: // errors and redirects
		return false
	}
	return true
}

func unicast(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// bucket bounds the answers of one worker.
type bucket struct{ empty int64 } // clock as of which everything was spent

// spend takes one answer's worth, if there is one.
func (b *bucket) spend(now int64) bool {
	const each = int64(time.Second) / RefusalsPerSecond
	if full := now - RefusalBurst*each; b.empty == 0 || b.empty < full {
		b.empty = full
	}
	if b.empty+each > now {
		return false
	}
	b.empty += each
	return true
}
