package slicing

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// arrival is a segment with the time at which it comes.
type arrival struct {
	at      time.Duration
	segment Segment[int]
}

// play feeds arrivals as a caller would, expiring on time, and gives what came
// out and how long each item waited.
func play(r *Resequencer[int], out *[]int, arrivals []arrival) (waited map[int]time.Duration) {
	waited = make(map[int]time.Duration)
	came := make(map[int]time.Duration)
	done := 0
	note := func(now time.Duration) {
		for ; done < len(*out); done++ {
			waited[(*out)[done]] = now - came[(*out)[done]]
		}
	}
	expire := func(until time.Duration) {
		for at, waiting := r.Next(); waiting && at <= until; at, waiting = r.Next() {
			r.Expire(at)
			note(at)
		}
	}
	for _, a := range arrivals {
		expire(a.at)
		came[a.segment.Item] = a.at
		r.Add(a.at, a.segment)
		note(a.at)
	}
	expire(1 << 62)
	return waited
}

func same(i int) int { return i }

func newTest() (*Resequencer[int], *[]int) {
	out := new([]int)
	return NewResequencer(func(i int) { *out = append(*out, i) }, same), out
}

// flowOf is count segments of equal length, one each step.
func flowOf(flow uint64, first uint32, count int, step time.Duration) (all []arrival) {
	const length = 1400
	for i := range count {
		all = append(all, arrival{time.Duration(i) * step, Segment[int]{flow, first + uint32(i*length), length, false, i}})
	}
	return all
}

// delayed moves every other segment back, as a slower slice does.
func delayed(all []arrival, by time.Duration) []arrival {
	for i := range all {
		if i%2 == 1 {
			all[i].at += by
		}
	}
	slices.SortStableFunc(all, func(x, y arrival) int { return int(x.at - y.at) })
	return all
}

func sorted(out []int) bool { return slices.IsSorted(out) }

// TestInOrderPasses: what is in order goes on at once, around the end of the
// sequence space too.
func TestInOrderPasses(t *testing.T) {
	r, out := newTest()
	for i, a := range flowOf(7, 1<<32-5000, 100, time.Millisecond) {
		r.Add(a.at, a.segment)
		if len(*out) != i+1 || (*out)[i] != i {
			t.Fatalf("segment %d: %v came out", i, *out)
		}
	}
	if _, waiting := r.Next(); waiting {
		t.Error("something waits")
	}
}

// TestSkewIsUndone: two slices of unequal delay give the order that was sent.
func TestSkewIsUndone(t *testing.T) {
	for _, skew := range []time.Duration{time.Millisecond, 5 * time.Millisecond, MaxHold - time.Millisecond} {
		r, out := newTest()
		arrivals := delayed(flowOf(7, 1<<32-50_000, 1000, 200*time.Microsecond), skew)
		play(r, out, arrivals)
		if len(*out) != 1000 || !sorted(*out) {
			t.Errorf("skew %v: %d out, in order %v", skew, len(*out), sorted(*out))
		}
	}
}

// TestLossDoesNotPay: a flow that loses packets is soon let pass as it comes,
// for longer each time; reordering brings the waiting back.
func TestLossDoesNotPay(t *testing.T) {
	r, out := newTest()
	arrivals := flowOf(7, 0, 100_000, time.Millisecond)
	lossy := slices.DeleteFunc(arrivals, func(a arrival) bool { return a.segment.Item%100 == 50 })
	waited := play(r, out, lossy)
	late := 0
	for _, d := range waited {
		if d > 0 {
			late++
		}
	}
	if !sorted(*out) || len(*out) != len(lossy) || late > len(lossy)/50 {
		t.Errorf("%d of %d waited", late, len(lossy))
	}
	if f := &r.flows[7]; f.pause < 16*MinPause {
		t.Errorf("the last pause was %v", f.pause)
	}
}

// TestPermutation: whatever comes, in whatever order, comes out once, and
// nothing waits longer than it may.
func TestPermutation(t *testing.T) {
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		r, out := newTest()
		var arrivals []arrival
		now := time.Duration(0)
		for i := range 500 {
			now += time.Duration(random.IntN(5)) * time.Millisecond
			arrivals = append(arrivals, arrival{now, Segment[int]{
				Flow: uint64(random.IntN(3)) * MaxFlows / 2, Seq: uint32(random.IntN(200)) * 700, Length: random.IntN(3) * 700,
				Breaks: random.IntN(50) == 0, Item: i,
			}})
		}
		waited := play(r, out, arrivals)
		seen := slices.Clone(*out)
		slices.Sort(seen)
		if len(seen) != len(arrivals) || len(slices.Compact(seen)) != len(arrivals) {
			t.Fatalf("seed %d: %d of %d came out", seed, len(seen), len(arrivals))
		}
		for item, d := range waited {
			if d > MaxHold {
				t.Fatalf("seed %d: item %d waited %v", seed, item, d)
			}
		}
		if r.bytes != 0 || r.waiting != 0 {
			t.Fatalf("seed %d: %d bytes, %d flows are left", seed, r.bytes, r.waiting)
		}
	}
}

// TestResequencerLimits: so much of one flow and of all may wait, then it goes
// on, in order.
func TestResequencerLimits(t *testing.T) {
	r, out := newTest()
	r.Add(0, Segment[int]{Flow: 1, Seq: 0, Length: 1})
	for i := range MaxHeld {
		r.Add(0, Segment[int]{1, uint32(1000 - i), 1, false, 1000 - i})
	}
	if len(*out) != 1 {
		t.Fatalf("%d came out early", len(*out)-1)
	}
	r.Add(0, Segment[int]{1, 2000, 1, false, 2000})
	if len(*out) != MaxHeld+2 || !sorted(*out) {
		t.Errorf("%d out, in order %v", len(*out), sorted(*out))
	}
	r, out = newTest()
	most := 0
	for i := range 200 {
		flow := uint64(i % 20)
		r.Add(0, Segment[int]{Flow: flow, Seq: 0, Length: 1})
		r.Add(0, Segment[int]{Flow: flow, Seq: uint32(10 + i*60_000), Length: 60_000})
		most = max(most, r.bytes)
		for f := range r.flows {
			if r.flows[f].bytes > MaxHeldBytes {
				t.Fatalf("flow %d holds %d bytes", f, r.flows[f].bytes)
			}
		}
	}
	if most > MaxHeldInAll || most < MaxHeldInAll-60_000 {
		t.Errorf("%d bytes waited in all", most)
	}
	r.Flush()
	if len(*out) != 400 || r.bytes != 0 {
		t.Errorf("%d out, %d bytes left", len(*out), r.bytes)
	}
}

func BenchmarkResequencerInOrder(b *testing.B) {
	r := NewResequencer(func(int) {}, same)
	s := Segment[int]{Flow: 7, Length: 64000}
	for b.Loop() {
		r.Add(0, s)
		s.Seq += 64000
	}
}
