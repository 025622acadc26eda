package plan

import (
	"strings"
	"testing"
	"time"
)

var shape = Shape{Nodes: 4, Voters: 3, Clients: 3, Start: 6 * time.Second, Length: 40 * time.Second, Settle: 12 * time.Second}

// TestBounds: every fault begins after the start and ends before the mesh is to settle,
// happens to somebody who is there, and never more than is promised happens at once.
func TestBounds(t *testing.T) {
	for seed := range uint64(2_000) {
		p := Draw(seed, shape)
		if len(p.Faults) == 0 || len(p.Faults) > MaxFaults {
			t.Errorf("seed %d: %d faults", seed, len(p.Faults))
		}
		for i, f := range p.Faults {
			if f.At < shape.Start || f.Lasts < ShortFault || f.End() > shape.Length-shape.Settle || i > 0 && f.At < p.Faults[i-1].At {
				t.Errorf("seed %d: %v", seed, f)
			}
			for _, w := range []Who{f.Who, f.Other} {
				if w.Number < 0 || !w.Client && w.Number >= shape.Nodes || w.Client && w.Number >= shape.Clients {
					t.Errorf("seed %d: %v is not there: %v", seed, w, f)
				}
			}
			if (f.Kind == Part || f.Kind == PartOneWay) && f.Who == f.Other {
				t.Errorf("seed %d: one is apart from itself: %v", seed, f)
			}
		}
		if p.Healed() > shape.Length-shape.Settle {
			t.Errorf("seed %d: healed at %v only", seed, p.Healed())
		}
		for _, what := range tooMuch(p) {
			t.Errorf("seed %d: %s in\n%v", seed, what, p)
		}
	}
}

// tooMuch is what a plan asks for beyond what is promised, by a look at all of its pairs.
func tooMuch(p Plan) (all []string) {
	disks := make(map[Who]bool)
	for i, f := range p.Faults {
		if f.Kind.disks() {
			disks[f.Who] = true
		}
		for j, o := range p.Faults {
			switch {
			case i == j || f.Who.Client || o.Who.Client:
			case f.Kind == Clock && o.Kind == Clock && overlap(f, o, 0):
				all = append(all, "two clocks are wrong")
			case f.Kind.disks() && o.Kind != Loss && o.Kind != Delay && (o.Who != f.Who || o.Kind == Restart) && overlap(f, o, DiskApart):
				all = append(all, "a disk goes while another node is touched: "+f.String()+" and "+o.String())
			case f.Kind.ends() && o.Kind.ends() && f.Who == o.Who && overlap(f, o, 0):
				all = append(all, "one is killed twice")
			}
		}
	}
	if len(disks) > 1 {
		all = append(all, "a majority's disks are gone")
	}
	return all
}

// TestBeyond: what is marked asks for too much, always.
func TestBeyond(t *testing.T) {
	marked := shape
	marked.Beyond = true
	for seed := range uint64(500) {
		p := Draw(seed, marked)
		if len(tooMuch(p)) == 0 {
			t.Errorf("seed %d asks for nothing beyond:\n%v", seed, p)
		}
		for _, f := range p.Faults {
			if f.End() > shape.Length-shape.Settle || f.Who.Number >= shape.Nodes {
				t.Errorf("seed %d: %v", seed, f)
			}
		}
	}
}

// TestEveryKind is drawn within the seeds of one ordinary run, and can be read.
func TestEveryKind(t *testing.T) {
	var seen [drawn]int
	clients, steps := 0, make(map[time.Duration]bool)
	for seed := range uint64(300) {
		for _, f := range Draw(seed, shape).Faults {
			seen[f.Kind]++
			if f.Who.Client {
				clients++
			}
			if f.Kind == Clock {
				steps[f.Step] = true
			}
			if line := f.String(); !strings.Contains(line, f.At.Round(time.Millisecond).String()) || !f.Kind.wide() && !strings.Contains(line, f.Who.String()) {
				t.Errorf("a fault reads %q", line)
			}
		}
	}
	for k, n := range seen {
		if n < 3 {
			t.Errorf("%v was drawn %d times in 300 seeds", Kind(k), n)
		}
	}
	if clients < 20 || !steps[time.Hour] || !steps[24*time.Hour] || !steps[-time.Hour] {
		t.Errorf("%d faults of clients, clocks were set by %v", clients, steps)
	}
}

// TestSameSeedSamePlan: and another seed is another one.
func TestSameSeedSamePlan(t *testing.T) {
	different := 0
	for seed := range uint64(50) {
		p := Draw(seed, shape).String()
		if p != Draw(seed, shape).String() {
			t.Errorf("seed %d gives two plans", seed)
		}
		if p != Draw(seed+1, shape).String() {
			different++
		}
	}
	if different < 50 {
		t.Errorf("%d of 50 neighbours differ", different)
	}
}

// TestSmallMeshes: one node, two, and five voters have plans as well.
func TestSmallMeshes(t *testing.T) {
	for _, s := range []Shape{
		{Nodes: 1, Voters: 1}, {Nodes: 1, Voters: 1, Clients: 1}, {Nodes: 2, Voters: 1}, {Nodes: 7, Voters: 5, Clients: 2},
	} {
		s.Start, s.Length, s.Settle = time.Second, 20*time.Second, 5*time.Second
		for seed := range uint64(300) {
			for _, f := range Draw(seed, s).Faults {
				if !f.Who.Client && f.Who.Number >= s.Nodes || f.Other.Client && f.Other.Number >= s.Clients || s.Voters == 1 && (f.Kind.disks() || f.Kind == Clock) {
					t.Errorf("seed %d, %d nodes: %v", seed, s.Nodes, f)
				}
			}
		}
	}
}
