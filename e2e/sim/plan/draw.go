package plan

import (
	"math/rand/v2"
	"slices"
	"time"
)

// Bounds of what is drawn.
const (
	MaxFaults  = 10
	tries      = 20 // to find a fault a place among the others
	ShortFault = 200 * time.Millisecond
	LongFault  = 12 * time.Second
	MaxLoss    = 30 // percent
	MaxDelay   = 150 * time.Millisecond
	MaxWrites  = 8
	// DiskApart is the time around the loss of a disk in which no other node is touched:
	// until its log is filled again, one more is a majority that lacks what was committed.
	DiskApart = 5 * time.Second
)

// likely is how often each kind is drawn, beside the others.
var likely = [drawn]int{
	Kill: 4, PowerOff: 5, Stop: 4, Isolate: 5, Mute: 4, Deafen: 4, Part: 3, PartOneWay: 3,
	Loss: 2, Delay: 2, Clock: 3, OldDisk: 2, EmptyDisk: 2, LostWrites: 2, Restart: 1,
}

// Draw is the plan of a seed.
func Draw(seed uint64, s Shape) Plan {
	d := drawing{random: rand.New(rand.NewPCG(seed, 0x706c616e)), Plan: Plan{Seed: seed, Shape: s}}
	if s.Beyond {
		d.beyond()
	}
	for range 1 + d.random.IntN(MaxFaults-len(d.Faults)) {
		for range tries {
			if f := d.draw(); d.fits(f) {
				d.Faults = append(d.Faults, f)
				break
			}
		}
	}
	slices.SortStableFunc(d.Faults, func(a, b Fault) int { return int(a.At - b.At) })
	if s.Parks {
		d.orders()
	}
	return d.Plan
}

// drawing is a plan in the making.
type drawing struct {
	Plan
	random *rand.Rand
}

func (d *drawing) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.random.Int64N(int64(max(most-least, 1))))
}

// room is how long faults may last together with their beginning.
func (d *drawing) room() time.Duration { return d.Shape.Length - d.Shape.Settle - d.Shape.Start }

// draw is any one fault.
func (d *drawing) draw() Fault {
	f := d.fault(d.kind())
	if f.Kind < Part && d.Shape.Clients > 0 && d.random.IntN(4) == 0 {
		f.Who = Who{Client: true, Number: d.random.IntN(d.Shape.Clients)}
	}
	return f
}

// fault is one of a kind, of a node.
func (d *drawing) fault(k Kind) Fault {
	f := Fault{Kind: k, Lasts: d.between(ShortFault, min(LongFault, d.room()))}
	if d.random.IntN(2) == 0 { // many things are short
		f.Lasts = d.between(ShortFault, min(2*time.Second, d.room()))
	}
	f.At = d.Shape.Start + d.between(0, d.room()-f.Lasts)
	f.Who.Number = d.random.IntN(d.Shape.Nodes)
	switch k {
	case Loss:
		f.Percent = 1 + d.random.IntN(MaxLoss)
	case Delay:
		f.Step = d.between(5*time.Millisecond, MaxDelay).Round(time.Millisecond)
	case Clock:
		f.Step = []time.Duration{time.Hour, 24 * time.Hour, -time.Hour, 30 * time.Second}[d.random.IntN(4)]
	case OldDisk:
		f.Step = d.between(time.Second, max(2*time.Second, f.At-d.Shape.Start))
	case LostWrites:
		f.Writes = 1 + d.random.IntN(MaxWrites)
	case Part, PartOneWay:
		f.Other = d.other(f.Who)
	}
	switch k { // of all nodes: nobody's own
	case Loss, Delay, Restart:
		f.Who = Who{}
	}
	return f
}

// other is anybody else: mostly a node, else a client.
func (d *drawing) other(than Who) Who {
	if d.Shape.Nodes < 2 || d.Shape.Clients > 0 && d.random.IntN(4) == 0 {
		return Who{Client: true, Number: d.random.IntN(max(d.Shape.Clients, 1))}
	}
	return Who{Number: (than.Number + 1 + d.random.IntN(d.Shape.Nodes-1)) % d.Shape.Nodes}
}

func (d *drawing) kind() Kind {
	sum := 0
	for _, n := range likely {
		sum += n
	}
	at := d.random.IntN(sum)
	for k, n := range likely {
		if at < n {
			return Kind(k)
		}
		at -= n
	}
	panic("plan: no kind was drawn")
}

// beyond is more than is promised: the disks of a majority, or one that was put back while
// another voter is down.
func (d *drawing) beyond() {
	first := d.fault(OldDisk)
	d.Faults = append(d.Faults, first)
	second := d.fault([]Kind{EmptyDisk, OldDisk, PowerOff}[d.random.IntN(3)])
	second.Who = d.other(first.Who)
	second.Who.Client = false
	second.Who.Number %= d.Shape.Nodes
	second.At, second.Lasts = first.At, max(first.Lasts, second.Lasts)
	if over := second.End() - (d.Shape.Length - d.Shape.Settle); over > 0 {
		second.Lasts -= over
	}
	d.Faults = append(d.Faults, second)
}
