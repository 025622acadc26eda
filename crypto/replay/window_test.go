package replay

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/quick"
)

// naive is the definition: a set of every counter accepted so far.
type naive struct {
	top  uint64
	seen map[uint64]bool
}

func (n *naive) check(seq uint64) bool {
	tooOld := seq <= n.top && n.top-seq >= Size
	return seq != 0 && !tooOld && !n.seen[seq]
}

func (n *naive) update(seq uint64) bool {
	if !n.check(seq) {
		return false
	}
	n.seen[seq] = true
	advanced := seq > n.top
	n.top = max(n.top, seq)
	return advanced
}

// step picks the next counter around the right edge: repeats, neighbours, both
// edges of the window, block edges, long jumps.
func step(r *rand.Rand, top uint64) uint64 {
	switch r.IntN(12) {
	case 0:
		return r.Uint64N(3)
	case 1:
		return top + r.Uint64N(4*Size)
	case 2:
		return top - min(top, Size-2+r.Uint64N(5))
	case 3:
		return top - min(top, r.Uint64N(2*Size))
	case 4:
		return (top/64)*64 + r.Uint64N(130)
	case 5:
		if r.IntN(20) == 0 {
			return top + r.Uint64N(1<<33)
		}
		return top + 1
	default:
		return top + 1 + r.Uint64N(3) - min(top, r.Uint64N(200))
	}
}

// I5: the window accepts exactly what the definition accepts.
func TestWindowAgainstNaiveModel(t *testing.T) {
	agree := func(a, b uint64) bool {
		r := rand.New(rand.NewPCG(a, b))
		var w Window
		model := naive{seen: make(map[uint64]bool)}
		for range 3000 {
			seq := step(r, model.top)
			if got, want := w.Check(seq), model.check(seq); got != want {
				t.Logf("Check(%d) = %v, want %v, top %d", seq, got, want, model.top)
				return false
			}
			if r.IntN(3) == 0 {
				continue
			}
			if got, want := w.Update(seq), model.update(seq); got != want || w.Top() != model.top {
				t.Logf("Update(%d) = %v, want %v, top %d, want %d", seq, got, want, w.Top(), model.top)
				return false
			}
		}
		return true
	}
	if err := quick.Check(agree, &quick.Config{MaxCount: 60}); err != nil {
		t.Fatal(err)
	}
}

func TestWindowEdges(t *testing.T) {
	const top = 3*Size + 17
	var w Window
	if w.Update(0) || w.Check(0) || w.Oldest() != 1 {
		t.Fatal("counter 0 accepted")
	}
	if !w.Check(1) || !w.Update(top) || w.Top() != top {
		t.Fatal("first counter not accepted")
	}
	for seq, want := range map[uint64]bool{
		0: false, 1: false, top - Size - 1: false, top - Size: false, top - Size + 1: true,
		top - 1: true, top: false, top + 1: true, top + 1<<31: true, math.MaxUint64: true,
	} {
		if w.Check(seq) != want {
			t.Errorf("Check(%d) = %v with top %d", seq, !want, uint64(top))
		}
	}
	if w.Oldest() != top-Size+1 {
		t.Errorf("Oldest() = %d with top %d", w.Oldest(), uint64(top))
	}
	if w.Update(top-Size+1) || w.Check(top-Size+1) {
		t.Fatal("the oldest counter must be accepted once, without moving the edge")
	}
}

func TestWindowJump(t *testing.T) {
	var w Window
	for seq := uint64(1); seq <= 2*Size; seq++ {
		if !w.Update(seq) {
			t.Fatalf("counter %d refused", seq)
		}
	}
	const far = 2*Size + 1<<31
	if !w.Update(far) || w.Update(far) {
		t.Fatal("a jump is accepted exactly once")
	}
	for seq := uint64(far - Size + 1); seq < far; seq++ {
		if !w.Check(seq) {
			t.Fatalf("counter %d refused after the jump: an old bit survived", seq)
		}
	}
	if w.Check(2 * Size) {
		t.Fatal("a counter from before the jump accepted")
	}
}

func TestWindowAtTheLastCounter(t *testing.T) {
	var w Window
	if !w.Update(math.MaxUint64) || w.Check(math.MaxUint64) || w.Check(0) || w.Check(1) {
		t.Fatal("the window wrapped")
	}
	if !w.Check(math.MaxUint64-Size+1) || w.Check(math.MaxUint64-Size) {
		t.Fatal("left edge wrong at the end of the number space")
	}
}

func TestRefusedUpdateChangesNothing(t *testing.T) {
	var w Window
	w.Update(Size * 2)
	before := Window{w.top, slices.Clone(w.bits)}
	for _, seq := range []uint64{0, 1, Size, Size * 2} {
		if w.Update(seq) || w.top != before.top || !slices.Equal(w.bits, before.bits) {
			t.Fatalf("Update(%d) changed the window", seq)
		}
	}
}

// I10: the limit is what the reference asks for.
func TestSize(t *testing.T) {
	if Size < 4096 || blocks*blockBits < Size+blockBits {
		t.Fatalf("window of %d counters in %d blocks", Size, blocks)
	}
}

// TestLittleTakesLittle: a window has room for what was accepted, and makes nothing more
// once it has all that it will ever need.
func TestLittleTakesLittle(t *testing.T) {
	var w Window
	for seq := uint64(1); seq <= 250; seq++ {
		w.Update(seq)
	}
	if len(w.bits) > 4 {
		t.Errorf("%d words for 250 counters", len(w.bits))
	}
	seq := uint64(2 * Size)
	w.Update(seq)
	if made := testing.AllocsPerRun(100, func() { seq += 100; w.Update(seq) }); made != 0 || len(w.bits) != blocks {
		t.Errorf("%d words, %v things made for a counter", len(w.bits), made)
	}
}
