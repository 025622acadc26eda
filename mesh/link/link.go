// Package link moves trains of UDP datagrams: up to 64 KB of equal-sized
// datagrams to or from one peer in one system call, by UDP_SEGMENT and UDP_GRO
// where the kernel has them. It owns sockets, their buffers, who reads them and the
// kernel's loss counter. It keeps no state per peer but whom a socket that only hears
// answers has sent to, and looks into a datagram only for the windows that it is told.
//
// linktest holds the in-memory twin: the same interface over a simulated
// network with a seed.
package link

import (
	"errors"
	"net/netip"
)

var (
	// ErrClosed is returned by a Socket after Close.
	ErrClosed = errors.New("link: socket closed")
	// ErrQueue is returned by Send when the train would wait for too long.
	ErrQueue = errors.New("link: queue full")
)

// Path is both ends of a datagram's way as this host sees them.
type Path struct {
	// Local is this host's address; zero lets the kernel choose when sending.
	Local netip.Addr
	// Remote is the peer. An IPv4 peer is always a plain IPv4 address.
	Remote netip.AddrPort
	// TOS is the DSCP and the ECN bits to send with. Receive leaves it 0, so
	// that a path is the same for packets of every class.
	TOS uint8
}

// Train describes the datagrams one Receive put into its buffer.
type Train struct {
	Path Path
	// Len is the number of bytes; Segment the size of each datagram but the
	// last, which may be shorter. A single datagram has Segment == Len.
	Len, Segment int
	// TOS is the DSCP and the ECN bits that all of them came with.
	TOS uint8
}

// Count is how many datagrams there are.
func (t Train) Count() int { return (t.Len + t.Segment - 1) / t.Segment }

// Socket is one UDP socket. Receive belongs to one goroutine at a time.
type Socket interface {
	Sender
	// Receive blocks until a train arrives. b should hold MaxTrain bytes.
	Receive(b []byte) (Train, error)
}

// Sender is a socket without its receiving end, which somebody else has. All of
// it is safe for concurrent use.
type Sender interface {
	// Send sends b as datagrams of segment bytes, the last one may be
	// shorter. It falls back to single datagrams where the kernel or the
	// path refuses a train.
	Send(b []byte, segment int, path Path) error
	// LocalAddr is the address the socket is bound to.
	LocalAddr() netip.AddrPort
	// Lost is how many datagrams the kernel dropped because the receive
	// buffer was full (the counter of SO_RXQ_OVFL), by now.
	Lost() uint64
	Close() error
}
