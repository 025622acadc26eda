// Package order puts TCP flows that were spread over several slices back into
// order before they are written to a tun.Device. It owns the locks, the clock
// and the memory of what waits; what is in order is slicing.Resequencer's word.
package order

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/node/tun"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// laneCount is how many workers may put flows in order side by side; each lane
// holds up to slicing.MaxHeldInAll.
const laneCount = 8

// Device is a tun.Device whose writes reach the one below in order.
type Device struct {
	tun.Device
	seed  maphash.Seed
	begin time.Time
	lanes [laneCount]lane
}

// run is one write: as it was given, or copied into one piece to wait.
type run struct {
	queue  tun.Queue
	pieces [][]byte
	waited bool
}

// lane serves a share of the flows, so that the workers of several slices
// seldom meet; it writes under its lock, or another worker could overtake it.
type lane struct {
	device *Device

	mu     sync.Mutex // protects the fields below
	core   *slicing.Resequencer[run]
	timer  *time.Timer
	set    bool
	closed bool
	err    error // of the run that is added
}

// Wrap gives a device that writes in order to the one given.
func Wrap(below tun.Device) *Device {
	d := &Device{Device: below, seed: maphash.MakeSeed(), begin: time.Now()}
	for i := range d.lanes {
		l := &d.lanes[i]
		l.device = d
		l.core = slicing.NewResequencer(l.write, keep)
		l.timer = time.AfterFunc(time.Hour, l.expire)
		l.timer.Stop()
	}
	return d
}

// Queues implements tun.Device.
func (d *Device) Queues() []tun.Queue {
	var all []tun.Queue
	for _, q := range d.Device.Queues() {
		all = append(all, &queue{Queue: q, device: d})
	}
	return all
}

// Close implements tun.Device; what waits is given up.
func (d *Device) Close() error {
	for i := range d.lanes {
		l := &d.lanes[i]
		l.mu.Lock()
		l.closed = true
		l.core.Flush()
		l.timer.Stop()
		l.mu.Unlock()
	}
	return d.Device.Close()
}

func (d *Device) now() time.Duration { return time.Since(d.begin) }

// write hands a run to the device below; called under mu. What has waited was
// called written then: if it is lost now, only the device below counts it.
func (l *lane) write(r run) {
	if l.closed {
		return
	}
	if err := r.queue.Write(r.pieces); !r.waited {
		l.err = err
	}
}

// keep copies what belongs to a worker.
func keep(r run) run {
	n := 0
	for _, piece := range r.pieces {
		n += len(piece)
	}
	whole := make([]byte, 0, n)
	for _, piece := range r.pieces {
		whole = append(whole, piece...)
	}
	return run{r.queue, [][]byte{whole}, true}
}

// arm sets the timer for what waits; called under mu.
func (l *lane) arm() {
	if l.set || l.closed {
		return
	}
	if at, waiting := l.core.Next(); waiting {
		l.set = true
		l.timer.Reset(at - l.device.now())
	}
}

func (l *lane) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set = false
	l.core.Expire(l.device.now())
	l.arm()
}

type queue struct {
	tun.Queue
	device *Device
}

// Write implements tun.Queue.
func (q *queue) Write(pieces [][]byte) error {
	s, ok := q.device.segment(pieces)
	if !ok {
		return q.Queue.Write(pieces)
	}
	s.Item = run{queue: q.Queue, pieces: pieces}
	l := &q.device.lanes[s.Flow%laneCount]
	s.Flow /= laneCount
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = nil
	l.core.Add(q.device.now(), s)
	l.arm()
	return l.err
}

// segment reads where a run stands in its flow; false for what is no whole TCP
// segment. The engine writes the offload header, a packet with all its headers,
// and payloads that follow it.
func (d *Device) segment(pieces [][]byte) (s slicing.Segment[run], ok bool) {
	if len(pieces) < 2 || len(pieces[0]) != tun.HeaderLen {
		return s, false
	}
	p := pieces[1]
	addresses, t := transport(p)
	if len(t) < 20 || len(t) < int(t[12]>>4)*4 {
		return s, false
	}
	const fin, syn, rst = 1, 2, 4
	s.Flow = maphash.Bytes(d.seed, addresses) ^ mixed(binary.BigEndian.Uint32(t))
	s.Seq = binary.BigEndian.Uint32(t[4:])
	s.Length = len(t) - int(t[12]>>4)*4
	for _, piece := range pieces[2:] {
		s.Length += len(piece)
	}
	s.Breaks = t[13]&(syn|rst) != 0
	if t[13]&(syn|fin) != 0 {
		s.Length++
	}
	return s, true
}

// transport is a packet's addresses and its TCP header; none for all others.
func transport(p []byte) (addresses, tcp []byte) {
	const protocol = 6
	switch {
	case len(p) >= 40 && p[0]>>4 == 6 && p[6] == protocol:
		return p[8:40], p[40:]
	case len(p) >= 20 && p[0]>>4 == 4 && p[9] == protocol:
		start, fragment := int(p[0]&0xf)*4, binary.BigEndian.Uint16(p[6:])&0x3fff != 0
		if start >= 20 && len(p) >= start && !fragment {
			return p[12:20], p[start:]
		}
	}
	return nil, nil
}

// mixed spreads the two ports of a flow over a hash.
func mixed(ports uint32) uint64 {
	h := uint64(ports) * 0x9e3779b97f4a7c15
	return h ^ h>>32
}
