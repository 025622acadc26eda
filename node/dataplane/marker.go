package dataplane

import (
	"encoding/binary"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// MarkerLen is the length of the header of every datagram on the data port
// that is not ESP, but for KeepAlive.
const MarkerLen = 12

// KeepAlive is a datagram of one byte that keeps a NAT's mapping, and is nothing else
// (RFC 3948 2.3).
const KeepAlive = 0xff

// HandOnOverhead is what handing on over a network of that address's family
// adds to a packet, at most.
func HandOnOverhead(a netip.Addr, sealed bool) int {
	n := MarkerLen + DatagramOverhead(a)
	if sealed {
		n += esp.MaxOverhead
	}
	return n
}

// DatagramOverhead is what UDP and IP add to a datagram on such a network.
func DatagramOverhead(a netip.Addr) int {
	if a.Is4() {
		return udpHeaderLen + ipv4HeaderLen
	}
	return udpHeaderLen + ipv6HeaderLen
}

// MarkerType says what follows a Marker.
type MarkerType uint8

// The types of marked datagrams.
const (
	MarkerHandOn MarkerType = iota + 1
	MarkerAccept
	MarkerConfirm
	MarkerProbe
	MarkerProbeReply
	MarkerPathTest
	MarkerVerdict
	MarkerClaim
)

// Marker is that header: the non-ESP marker of RFC 3948 (four zero bytes), a
// type, the hops taken, two zero bytes and the SPI the datagram is about.
type Marker struct {
	Type MarkerType
	Hops uint8
	SPI  uint32
}

// handOnMarker is the header of a packet that is handed on for a slice.
func handOnMarker(spi uint32) Marker { return Marker{Type: MarkerHandOn, Hops: 1, SPI: spi} }

// ParseMarker reads the header at the start of a datagram. It reports false
// for ESP, for anything too short and where a zero byte is not zero.
func ParseMarker(datagram []byte) (m Marker, ok bool) {
	if len(datagram) < MarkerLen || binary.BigEndian.Uint32(datagram) != 0 {
		return Marker{}, false
	}
	m = Marker{MarkerType(datagram[4]), datagram[5], binary.BigEndian.Uint32(datagram[8:])}
	return m, binary.BigEndian.Uint16(datagram[6:]) == 0
}

// Encode writes the header to the first MarkerLen bytes of b.
func (m Marker) Encode(b []byte) {
	binary.BigEndian.PutUint32(b, 0)
	b[4], b[5], b[6], b[7] = byte(m.Type), m.Hops, 0, 0
	binary.BigEndian.PutUint32(b[8:], m.SPI)
}

// Append appends the header and body to b.
func (m Marker) Append(b, body []byte) []byte {
	var header [MarkerLen]byte
	m.Encode(header[:])
	return append(append(b, header[:]...), body...)
}
