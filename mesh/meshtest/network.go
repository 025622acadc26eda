// Package meshtest is the in-memory twin of the network below gossip: any
// number of members in one process, without sockets, with hosts that can be
// cut off. It owns addresses and delivery. Unlike memberlist's own mock it
// never blocks a sender on a receiver that is gone, so it also runs inside a
// testing/synctest bubble.
package meshtest

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// MaxPackets is how many datagrams wait at one host; more are lost.
const MaxPackets = 256

// ErrUnreachable is returned by a dial to a host that is gone or cut off.
var ErrUnreachable = errors.New("meshtest: unreachable")

// Network connects hosts.
type Network struct {
	mu    sync.Mutex // protects what follows
	hosts map[string]*Host
	cut   map[string]bool
}

// Host is one member's transport.
type Host struct {
	network *Network
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once
}

// NewNetwork returns a network without hosts.
func NewNetwork() *Network {
	return &Network{hosts: make(map[string]*Host), cut: make(map[string]bool)}
}

// Host adds a host.
func (n *Network) Host(addr netip.AddrPort) *Host {
	h := &Host{
		network: n,
		addr:    addr,
		packets: make(chan *memberlist.Packet, MaxPackets),
		streams: make(chan net.Conn),
		done:    make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[addr.String()] = h
	return h
}

// Cut takes a host off the network, or puts it back.
func (n *Network) Cut(addr netip.AddrPort, off bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[addr.String()] = off
}

func (n *Network) find(from, to string) (*Host, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h, ok := n.hosts[to]
	return h, ok && !n.cut[from] && !n.cut[to]
}

// FinalAdvertiseAddr is the host's address, whatever was configured.
func (h *Host) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return h.addr.Addr().AsSlice(), int(h.addr.Port()), nil
}

// WriteTo sends a datagram; what cannot arrive is lost without a word.
func (h *Host) WriteTo(b []byte, to string) (time.Time, error) {
	now := time.Now()
	if peer, ok := h.network.find(h.addr.String(), to); ok {
		p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(h.addr), Timestamp: now}
		select {
		case peer.packets <- p:
		default:
		}
	}
	return now, nil
}

// WriteToAddress is WriteTo.
func (h *Host) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	return h.WriteTo(b, to.Addr)
}

// PacketCh gives the datagrams that arrived.
func (h *Host) PacketCh() <-chan *memberlist.Packet { return h.packets }

// StreamCh gives the connections that arrived.
func (h *Host) StreamCh() <-chan net.Conn { return h.streams }

// DialTimeout opens a connection.
func (h *Host) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	peer, ok := h.network.find(h.addr.String(), to)
	if !ok {
		return nil, ErrUnreachable
	}
	ours, theirs := net.Pipe()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case peer.streams <- theirs:
		return ours, nil
	case <-peer.done:
	case <-timer.C:
	}
	return nil, ErrUnreachable
}

// DialAddressTimeout is DialTimeout.
func (h *Host) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	return h.DialTimeout(to.Addr, timeout)
}

// Shutdown takes the host away for good.
func (h *Host) Shutdown() error {
	h.once.Do(func() { close(h.done) })
	h.network.mu.Lock()
	defer h.network.mu.Unlock()
	if h.network.hosts[h.addr.String()] == h {
		delete(h.network.hosts, h.addr.String())
	}
	return nil
}
