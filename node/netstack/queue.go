package netstack

import (
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

// queue is one tun.Queue of the stack.
type queue struct {
	link *link

	mu      sync.Mutex // protects the fields below
	changed *sync.Cond
	ring    [MaxQueued]*stack.PacketBuffer
	first   int // of the waiting ones
	waiting int
	bytes   int
	closed  bool
}

var _ tun.Queue = (*queue)(nil)

func newQueue(l *link) *queue {
	q := &queue{link: l}
	q.changed = sync.NewCond(&q.mu)
	return q
}

// push lets a packet wait for the engine; false if there is no room.
func (q *queue) push(p *stack.PacketBuffer) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := p.Size()
	if q.closed || q.waiting == MaxQueued || q.bytes+size > MaxQueuedBytes || size > tun.MaxPacket {
		return false
	}
	q.ring[(q.first+q.waiting)%MaxQueued] = p.Clone()
	q.waiting++
	q.bytes += size
	if q.waiting == 1 {
		q.changed.Signal()
	}
	return true
}

// pop takes a packet, and waits for one if it may; closed after the end.
func (q *queue) pop(wait bool) (p *stack.PacketBuffer, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for wait && q.waiting == 0 && !q.closed {
		q.changed.Wait()
	}
	if q.closed || q.waiting == 0 {
		return nil, q.closed
	}
	return q.shift(), false
}

// shift takes the oldest packet; called under mu.
func (q *queue) shift() *stack.PacketBuffer {
	p := q.ring[q.first]
	q.ring[q.first] = nil
	q.first = (q.first + 1) % MaxQueued
	q.waiting--
	q.bytes -= p.Size()
	return p
}

func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for q.waiting > 0 {
		q.shift().DecRef()
	}
	q.changed.Broadcast()
}

// Read implements tun.Queue.
func (q *queue) Read(b []byte) (int, error) { return q.read(b, true) }

// TryRead implements tun.Queue.
func (q *queue) TryRead(b []byte) (int, error) { return q.read(b, false) }

func (q *queue) read(b []byte, wait bool) (int, error) {
	for {
		p, closed := q.pop(wait)
		if closed {
			return 0, tun.ErrClosed
		}
		if p == nil {
			return 0, nil
		}
		size := tun.HeaderLen + p.Size()
		if size > len(b) {
			q.link.full.Add(1)
			p.DecRef()
			continue
		}
		offload(p).Encode(b)
		n := tun.HeaderLen
		for _, piece := range p.AsSlices() {
			n += copy(b[n:], piece)
		}
		p.DecRef()
		return n, nil
	}
}

// offload says in the TUN's words what the stack left to do.
func offload(p *stack.PacketBuffer) (h tun.VnetHeader) {
	gso := p.GSOOptions
	if gso.NeedsCsum {
		h.Flags = tun.FlagNeedsCsum
		h.CsumStart, h.CsumOffset = gso.L3HdrLen, gso.CsumOffset
	}
	if payload := p.Data().Size(); payload > int(gso.MSS) {
		switch gso.Type {
		case stack.GSOTCPv4:
			h.GSOType = tun.GSOTCPv4
		case stack.GSOTCPv6:
			h.GSOType = tun.GSOTCPv6
		default:
			return h
		}
		h.GSOSize, h.HdrLen = gso.MSS, uint16(p.Size()-payload)
	}
	return h
}

// Write implements tun.Queue. The packet is copied once, into the stack's own
// memory.
func (q *queue) Write(pieces [][]byte) error {
	size := 0
	for _, piece := range pieces {
		size += len(piece)
	}
	if size <= tun.HeaderLen || size > tun.HeaderLen+tun.MaxPacket {
		q.link.bad.Add(1)
		return nil
	}
	view := buffer.NewViewSize(size)
	whole := view.AsSlice()
	n := 0
	for _, piece := range pieces {
		n += copy(whole[n:], piece)
	}
	h, packet := tun.Decode(whole), whole[tun.HeaderLen:]
	protocol, ok := versionOf(packet)
	if !ok || h.Flags&tun.FlagNeedsCsum == 0 && !sound(packet) {
		q.link.bad.Add(1)
		view.Release()
		return nil
	}
	view.TrimFront(tun.HeaderLen)
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(view)})
	p.NetworkProtocolNumber = protocol
	q.link.deliver(p)
	p.DecRef()
	return nil
}
