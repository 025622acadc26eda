// Package tun is the boundary to the host's IP stack: super-packets with
// their offload header, in and out of a TUN device. It owns the device, its
// queues and their descriptors; routes and addresses belong to node/host. It
// does not parse the packets it carries.
//
// tuntest holds the in-memory twin.
package tun

import (
	"encoding/binary"
	"errors"
)

var (
	// ErrClosed is returned by a Queue after Close.
	ErrClosed = errors.New("tun: device closed")
	// ErrRemoved is returned by Read once somebody else has removed the interface;
	// it never comes back.
	ErrRemoved = errors.New("tun: the interface was removed by other software")
)

// Device is a TUN interface with one or more queues.
type Device interface {
	Name() string
	// Queues gives all queues; the kernel keeps one flow on one queue.
	Queues() []Queue
	// Close wakes every blocked Read. The interface and its addresses go
	// with it.
	Close() error
}

// Queue is one descriptor of a device. Read belongs to one goroutine; Write
// is safe for concurrent use.
type Queue interface {
	// Read blocks and puts one VnetHeader and one packet of at most
	// MaxPacket bytes into b.
	Read(b []byte) (n int, err error)
	// TryRead is Read that does not wait: n is 0 when there is no packet.
	TryRead(b []byte) (n int, err error)
	// Write gathers one VnetHeader and one packet from the pieces.
	Write(pieces [][]byte) error
}

// HeaderLen is the length in bytes of a VnetHeader on a queue.
const HeaderLen = 10

// MaxPacket is the largest packet a queue carries, without its header.
const MaxPacket = 65535

// Values of VnetHeader.Flags and GSOType (virtio 1.2, 5.1.6).
const (
	FlagNeedsCsum = 1

	GSONone  = 0
	GSOTCPv4 = 1
	GSOTCPv6 = 4
	GSOUDPL4 = 5
	GSOECN   = 0x80
)

// VnetHeader is struct virtio_net_hdr: how the kernel is to checksum and
// segment the packet behind it.
type VnetHeader struct {
	Flags, GSOType        uint8
	HdrLen                uint16 // bytes of headers before the payload
	GSOSize               uint16 // payload bytes of each segment
	CsumStart, CsumOffset uint16
}

// Decode reads the header at the start of b, which holds at least HeaderLen bytes.
func Decode(b []byte) VnetHeader {
	return VnetHeader{
		Flags: b[0], GSOType: b[1],
		HdrLen:     binary.NativeEndian.Uint16(b[2:]),
		GSOSize:    binary.NativeEndian.Uint16(b[4:]),
		CsumStart:  binary.NativeEndian.Uint16(b[6:]),
		CsumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}

// Encode writes the header to the first HeaderLen bytes of b.
func (h VnetHeader) Encode(b []byte) {
	b[0], b[1] = h.Flags, h.GSOType
	binary.NativeEndian.PutUint16(b[2:], h.HdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.GSOSize)
	binary.NativeEndian.PutUint16(b[6:], h.CsumStart)
	binary.NativeEndian.PutUint16(b[8:], h.CsumOffset)
}
