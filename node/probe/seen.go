package probe

import (
	"encoding/binary"
	"net/netip"
)

// lenSeen is kind 1, address 16 and port 2.
const lenSeen = 1 + 16 + 2

// Seen makes a challenge: an agent tells its client the address that it sees
// it at. Whoever sends the echo along that way can also be reached there.
func Seen(at netip.AddrPort) []byte {
	a := at.Addr().As16()
	b := append(make([]byte, 0, lenSeen), KindSeen)
	b = append(b, a[:]...)
	return binary.BigEndian.AppendUint16(b, at.Port())
}

// EchoSeen makes the client's answer; ok is false when b is no challenge.
func EchoSeen(b []byte) (echo []byte, ok bool) {
	if len(b) != lenSeen || b[0] != KindSeen {
		return nil, false
	}
	echo = append([]byte(nil), b...)
	echo[0] = KindSeenEcho
	return echo, true
}

// ParseSeenEcho reads the address of an answer; ok is false when it is none.
func ParseSeenEcho(b []byte) (at netip.AddrPort, ok bool) {
	if len(b) != lenSeen || b[0] != KindSeenEcho {
		return at, false
	}
	a := netip.AddrFrom16([16]byte(b[1:17])).Unmap()
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(b[17:])), true
}
