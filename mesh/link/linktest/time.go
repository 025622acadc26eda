package linktest

import (
	"container/heap"
	"context"
	"net/netip"
	"time"
)

// flight is a train on its way: datagrams of one Send that land together.
type flight struct {
	due      time.Duration
	sequence uint64 // orders what is due at the same instant
	from, to netip.AddrPort
	payload  []byte
	segment  int
	count    int
	tos      uint8
}

// joins says whether a datagram extends the train: a short one ends it.
func (f *flight) joins(datagram []byte, due time.Duration) bool {
	return f.count > 0 && f.due == due && len(datagram) <= f.segment &&
		len(f.payload) == f.count*f.segment
}

// flights is a heap by (due, sequence).
type flights []flight

func (f flights) Len() int { return len(f) }

func (f flights) Less(i, j int) bool {
	if f[i].due != f[j].due {
		return f[i].due < f[j].due
	}
	return f[i].sequence < f[j].sequence
}

func (f flights) Swap(i, j int) { f[i], f[j] = f[j], f[i] }

func (f *flights) Push(x any) { *f = append(*f, x.(flight)) }

func (f *flights) Pop() any {
	last := len(*f) - 1
	x := (*f)[last]
	(*f)[last] = flight{}
	*f = (*f)[:last]
	return x
}

// Advance moves the network's time and lands what becomes due, in order.
func (n *Network) Advance(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	until := n.now + d
	for len(n.flying) > 0 && n.flying[0].due <= until {
		f := heap.Pop(&n.flying).(flight)
		n.now = f.due
		n.land(f)
	}
	n.now = until
}

// Next tells how long it is until something lands.
func (n *Network) Next() (d time.Duration, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.flying) == 0 {
		return 0, false
	}
	return n.flying[0].due - n.now, true
}

// Follow keeps the network's time in step with the time package until ctx
// ends. In a testing/synctest bubble that time is virtual and the order stays
// deterministic; the network must then be made inside the bubble.
func (n *Network) Follow(ctx context.Context) {
	last := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Stop()
		if d, ok := n.Next(); ok {
			timer.Reset(max(d-time.Since(last), 0))
		}
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		case <-timer.C:
		}
		now := time.Now()
		n.Advance(now.Sub(last))
		last = now
	}
}
