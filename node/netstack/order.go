package netstack

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/meshcrypt/meshcrypt/slicing"
)

// order lets the runs of TCP flows reach the stack in the order in which they
// left. Each of its lanes serves a share of the flows, so that the workers of
// several slices seldom meet; a lane delivers under its lock, or another worker
// could overtake it.
type order struct {
	seed  maphash.Seed
	begin time.Time
	lanes [orderLanes]lane
}

type lane struct {
	order *order

	mu     sync.Mutex // protects the fields below
	core   *slicing.Resequencer[*stack.PacketBuffer]
	timer  *time.Timer // set while something waits
	set    bool
	closed bool
}

func newOrder(deliver func(*stack.PacketBuffer)) *order {
	o := &order{seed: maphash.MakeSeed(), begin: time.Now()}
	for i := range o.lanes {
		l := &o.lanes[i]
		l.order = o
		l.core = slicing.NewResequencer(func(p *stack.PacketBuffer) {
			if !l.closed {
				deliver(p)
			}
			p.DecRef()
		})
		l.timer = time.AfterFunc(time.Hour, l.expire)
		l.timer.Stop()
	}
	return o
}

func (o *order) now() time.Duration { return time.Since(o.begin) }

// add delivers a packet in its turn, and takes it over; false if it is of no
// TCP flow.
func (o *order) add(p *stack.PacketBuffer, packet []byte) bool {
	s, ok := o.segment(packet)
	if !ok {
		return false
	}
	s.Item = p
	l := &o.lanes[s.Flow%orderLanes]
	s.Flow /= orderLanes
	l.mu.Lock()
	defer l.mu.Unlock()
	l.core.Add(o.now(), s)
	l.arm()
	return true
}

// arm sets the timer for what waits; called under mu.
func (l *lane) arm() {
	if l.set || l.closed {
		return
	}
	if at, waiting := l.core.Next(); waiting {
		l.set = true
		l.timer.Reset(at - l.order.now())
	}
}

func (l *lane) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set = false
	l.core.Expire(l.order.now())
	l.arm()
}

// end gives up what waits.
func (o *order) end() {
	for i := range o.lanes {
		l := &o.lanes[i]
		l.mu.Lock()
		l.closed = true
		l.core.Flush()
		l.timer.Stop()
		l.mu.Unlock()
	}
}

// segment reads where a packet stands in its flow; false for what is no whole
// TCP segment.
func (o *order) segment(p []byte) (s slicing.Segment[*stack.PacketBuffer], ok bool) {
	var addresses, t []byte
	if p[0]>>4 == 6 {
		if p[6] != byte(header.TCPProtocolNumber) {
			return s, false
		}
		addresses, t = p[8:40], p[header.IPv6MinimumSize:]
	} else {
		start, fragment := int(p[0]&0xf)*4, binary.BigEndian.Uint16(p[6:])&0x3fff != 0
		if p[9] != byte(header.TCPProtocolNumber) || fragment || len(p) < start {
			return s, false
		}
		addresses, t = p[12:20], p[start:]
	}
	if len(t) < header.TCPMinimumSize || len(t) < int(t[12]>>4)*4 {
		return s, false
	}
	flags := header.TCPFlags(t[13])
	s.Flow = maphash.Bytes(o.seed, addresses) ^ mixed(binary.BigEndian.Uint32(t))
	s.Seq = binary.BigEndian.Uint32(t[4:])
	s.Length = len(t) - int(t[12]>>4)*4
	s.Breaks = flags&(header.TCPFlagSyn|header.TCPFlagRst) != 0
	if flags&(header.TCPFlagSyn|header.TCPFlagFin) != 0 {
		s.Length++
	}
	return s, true
}

// mixed spreads the two ports of a flow over a hash.
func mixed(ports uint32) uint64 {
	h := uint64(ports) * 0x9e3779b97f4a7c15
	return h ^ h>>32
}
