// Package tuntest is the in-memory twin of package tun: the test plays the
// host's IP stack, injecting what the host sends and taking what it would
// receive. It owns no kernel device.
package tuntest

import (
	"errors"
	"fmt"
	"hash/fnv"
	"sync"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

// ErrShort is returned by Write for less than a whole VnetHeader and by Read
// for a buffer that cannot hold the packet.
var ErrShort = errors.New("tuntest: header or buffer too short")

// Limits of the queues.
const (
	// MaxInjected is how many packets wait to be read from one queue.
	MaxInjected = 4096
	// MaxWritten is how many written packets wait to be taken.
	MaxWritten = 1 << 16
)

// Packet is one packet as it crosses the boundary.
type Packet struct {
	Header tun.VnetHeader
	Data   []byte
	Queue  int // the queue it was written to or is to be read from
}

// Device is a tun.Device without a kernel. A blocked Read counts as idle in a
// testing/synctest bubble.
type Device struct {
	mu      sync.Mutex // protects all fields of the device and its queues
	changed *sync.Cond
	queues  []*queue
	written []Packet
	dropped uint64
	closed  bool
}

type queue struct {
	device   *Device
	number   int
	injected []Packet
}

var (
	_ tun.Device = (*Device)(nil)
	_ tun.Queue  = (*queue)(nil)
)

// New makes a device with at least one queue.
func New(queues int) *Device {
	d := &Device{}
	d.changed = sync.NewCond(&d.mu)
	for i := range max(queues, 1) {
		d.queues = append(d.queues, &queue{device: d, number: i})
	}
	return d
}

// Name implements tun.Device.
func (d *Device) Name() string { return "tuntest0" }

// Queues implements tun.Device.
func (d *Device) Queues() []tun.Queue {
	queues := make([]tun.Queue, len(d.queues))
	for i, q := range d.queues {
		queues[i] = q
	}
	return queues
}

// Close implements tun.Device.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	d.changed.Broadcast()
	return nil
}

// Inject makes the host send a packet. Like the kernel it keeps one flow on
// one queue. It reports false when the queue is full or the device closed.
func (d *Device) Inject(h tun.VnetHeader, packet []byte) bool {
	return d.InjectAt(flow(packet)%len(d.queues), h, packet)
}

// InjectAt is Inject for a queue of the test's choice.
func (d *Device) InjectAt(queue int, h tun.VnetHeader, packet []byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := d.queues[queue]
	if d.closed || len(q.injected) >= MaxInjected {
		d.dropped++
		return false
	}
	q.injected = append(q.injected,
		Packet{Header: h, Data: append([]byte(nil), packet...), Queue: queue})
	d.changed.Broadcast()
	return true
}

// Take returns the oldest packet written to the host, if there is one.
func (d *Device) Take() (Packet, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.take()
}

// Wait is Take that blocks until a packet is written; false after Close.
func (d *Device) Wait() (Packet, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.written) == 0 && !d.closed {
		d.changed.Wait()
	}
	return d.take()
}

// TakeAll returns everything written since the last take, oldest first.
func (d *Device) TakeAll() []Packet {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.written
	d.written = nil
	return all
}

// Waiting is how many injected packets have not been read yet.
func (d *Device) Waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, q := range d.queues {
		n += len(q.injected)
	}
	return n
}

// WaitingAt is Waiting for one queue.
func (d *Device) WaitingAt(queue int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.queues[queue].injected)
}

// Dropped counts packets lost to full queues or a closed device.
func (d *Device) Dropped() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.dropped
}

func (d *Device) take() (Packet, bool) {
	if len(d.written) == 0 {
		return Packet{}, false
	}
	p := d.written[0]
	d.written[0] = Packet{}
	d.written = d.written[1:]
	return p, true
}

func (q *queue) Read(b []byte) (int, error) { return q.read(b, true) }

func (q *queue) TryRead(b []byte) (int, error) { return q.read(b, false) }

func (q *queue) read(b []byte, wait bool) (int, error) {
	d := q.device
	d.mu.Lock()
	defer d.mu.Unlock()
	for wait && len(q.injected) == 0 && !d.closed {
		d.changed.Wait()
	}
	if d.closed {
		return 0, tun.ErrClosed
	}
	if len(q.injected) == 0 {
		return 0, nil
	}
	p := q.injected[0]
	q.injected[0] = Packet{}
	q.injected = q.injected[1:]
	n := tun.HeaderLen + len(p.Data)
	if len(b) < n {
		d.dropped++
		return 0, fmt.Errorf("%w: %d bytes for %d", ErrShort, len(b), n)
	}
	p.Header.Encode(b)
	copy(b[tun.HeaderLen:], p.Data)
	return n, nil
}

func (q *queue) Write(pieces [][]byte) error {
	var b []byte
	for _, piece := range pieces {
		b = append(b, piece...)
	}
	if len(b) < tun.HeaderLen || len(b) > tun.HeaderLen+tun.MaxPacket {
		return fmt.Errorf("%w: %d bytes written", ErrShort, len(b))
	}
	d := q.device
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return tun.ErrClosed
	}
	if len(d.written) >= MaxWritten {
		d.dropped++
		d.written[0] = Packet{}
		d.written = d.written[1:]
	}
	d.written = append(d.written,
		Packet{Header: tun.Decode(b), Data: b[tun.HeaderLen:], Queue: q.number})
	d.changed.Broadcast()
	return nil
}

// flow hashes protocol, addresses and ports; packets too short for them hash
// whole.
func flow(packet []byte) int {
	hash := fnv.New32a()
	switch {
	case len(packet) >= 24 && packet[0] == 0x45:
		_, _ = hash.Write(packet[9:10])
		_, _ = hash.Write(packet[12:24])
	case len(packet) >= 44 && packet[0]>>4 == 6:
		_, _ = hash.Write(packet[6:7])
		_, _ = hash.Write(packet[8:44])
	default:
		_, _ = hash.Write(packet)
	}
	return int(hash.Sum32() >> 1)
}
