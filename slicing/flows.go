package slicing

import "time"

// flows remembers the slices of flows that must stay together, so that a
// change of weights, or a slice that comes, moves none of them.
type flows [FlowSets][FlowWays]place

// place is where one flow is; slice counts from 1, 0 is an empty place.
type place struct {
	flow  uint64
	seen  time.Duration
	slice uint8
}

// find is the flow's place, an empty one, or that of a flow which was idle for
// long enough; nil when there is none of these.
func (f *flows) find(flow uint64, now time.Duration) *place {
	var free *place
	set := &f[flow%FlowSets]
	for i := range set {
		switch at := &set[i]; {
		case at.slice != 0 && at.flow == flow:
			return at
		case at.slice == 0:
			free = at
		case free == nil && now-at.seen > FlowIdle:
			free = at
		}
	}
	if free != nil {
		*free = place{flow: flow}
	}
	return free
}

// place finds where a run's flow is, if there is room to know it.
func (p *Picker) place(r Run) *place {
	if p.last != nil && p.last.flow == r.Flow {
		return p.last
	}
	if p.flows == nil {
		p.flows = new(flows) // once in the life of a session that needs it
	}
	at := p.flows.find(r.Flow, r.Now)
	if at != nil {
		p.last = at
	}
	return at
}

// stays reports whether the place still names a usable slice.
func (p *Picker) stays(at *place) bool { return at.slice != 0 && p.share[at.slice-1] > 0 }

// pin keeps a flow on one slice for as long as that is usable, and books its
// bytes there at once, so that sprayed runs make room for it.
func (p *Picker) pin(r Run) int {
	slice := -1
	switch at := p.place(r); {
	case at == nil:
		slice = Rendezvous(p.set.usable(), r.Flow)
	case p.stays(at):
		slice, at.seen = int(at.slice-1), r.Now
	default:
		slice = Rendezvous(p.set.usable(), r.Flow)
		at.slice, at.seen = uint8(slice+1), r.Now
	}
	if p.lead[slice] < float64(MaxLead*p.set.quantum()) {
		p.book(slice, runBytes(r))
	}
	return slice
}

// flowlet lets a flow go on where it is until it has paused for longer than
// one slice is slower than another: what was sent before the pause is there
// before what is sent after it, whichever way either took.
func (p *Picker) flowlet(r Run) int {
	at := p.place(r)
	if at == nil {
		return p.pin(r)
	}
	if paused := p.set.Gap > 0 && r.Now-at.seen > p.set.Gap; paused || !p.stays(at) {
		at.slice = uint8(p.next(float64(p.set.quantum())) + 1)
	}
	at.seen = r.Now
	p.book(int(at.slice-1), runBytes(r))
	return int(at.slice - 1)
}
