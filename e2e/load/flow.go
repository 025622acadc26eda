package main

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// flowEvery is between two questions of a flow: a tenth of what it may stall, so that hundreds of
// flows are little beside those that come back.
const flowEvery = mustStall / 10

// echoAt is what answers them, in the network that the mesh pushes.
var echoAt = netip.MustParseAddrPort("127.0.9.1:7007")

// echo answers every datagram until it is closed.
func echo() (stop func() error, err error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(echoAt))
	if err != nil {
		return nil, err
	}
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = conn.WriteToUDPAddrPort(b[:n], from) // whoever does not hear it says so
		}
	}()
	return conn.Close, nil
}

// flow is a client's packets through the tunnel, its host and its TUN in one: questions to
// echo, and how long no answer came.
type flow struct {
	nowhere
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex // protects what follows
	lease netip.Addr
	asked time.Time
	heard time.Time // zero: never
	worst time.Duration
}

func newFlow() *flow { return &flow{closed: make(chan struct{})} }

// Up is client.Host.
func (f *flow) Up(leases []netip.Addr, _ protocol.Update) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lease = leases[0]
	return nil
}

// Queues is tun.Device.
func (f *flow) Queues() []tun.Queue { return []tun.Queue{f} }

// Close is tun.Device.
func (f *flow) Close() error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// Read is tun.Queue: a question when it is due.
func (f *flow) Read(b []byte) (int, error) {
	for {
		f.mu.Lock()
		lease, wait := f.lease, time.Until(f.asked.Add(flowEvery))
		f.mu.Unlock()
		if wait <= 0 && lease.IsValid() {
			break
		}
		select {
		case <-f.closed:
			return 0, tun.ErrClosed
		case <-time.After(max(wait, time.Millisecond)):
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = time.Now()
	clear(b[:tun.HeaderLen])
	return tun.HeaderLen + copy(b[tun.HeaderLen:], question(netip.AddrPortFrom(f.lease, echoAt.Port()), echoAt)), nil
}

// Write is tun.Queue: whatever comes is an answer, for nothing else is asked.
func (f *flow) Write([][]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(time.Now())
	f.heard = time.Now()
	return nil
}

// note counts the silence that lasts until now.
func (f *flow) note(now time.Time) {
	if !f.heard.IsZero() {
		f.worst = max(f.worst, now.Sub(f.heard))
	}
}

// stall is the longest silence since it was asked last; not of a flow that never was heard.
func (f *flow) stall() (worst time.Duration, heard bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.note(time.Now())
	worst, f.worst = f.worst, 0
	return worst, !f.heard.IsZero()
}

// question is a UDP packet of eight bytes in IPv4, without UDP's checksum.
func question(from, to netip.AddrPort) []byte {
	const length = 20 + 8 + 8
	b := make([]byte, length)
	b[0], b[8], b[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(b[2:], length)
	copy(b[12:], from.Addr().AsSlice())
	copy(b[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b[:20]))
	binary.BigEndian.PutUint16(b[20:], from.Port())
	binary.BigEndian.PutUint16(b[22:], to.Port())
	binary.BigEndian.PutUint16(b[24:], length-20)
	return b
}

// checksum is that of IPv4.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
