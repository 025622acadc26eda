package node

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestHeapIsSmallAtRest: there is little room while little is made, and twice Go's own while
// a crowd logs in; what collections mark stays the same between.
func TestHeapIsSmallAtRest(t *testing.T) {
	const second = HeapMarks // made in one, for which Go's own room is just enough
	for made, want := range map[uint64]int{
		0:                                HeapAtRest,
		second * HeapAtRest / 100:        HeapAtRest,
		second*HeapAtRest/100 + 1024:     2 * HeapAtRest,
		second * 2 * HeapAtRest / 100:    2 * HeapAtRest,
		second*2*HeapAtRest/100 + 1024:   3 * HeapAtRest, // and no more: what rests in it takes memory
		second*HeapBusy/100 - second/100: HeapBusy,
		100 * second:                     HeapBusy,
	} {
		if got, busy := heapRoom(10*made, 10*time.Second, HeapBusy); got != want || busy != (want == HeapBusy) {
			t.Errorf("%d KiB made a second: room of %d %%, want %d", made>>10, got, want)
		}
	}
	before := heapMade()
	kept := make([]byte, 1<<20)
	for range 64 {
		kept = make([]byte, len(kept))
	}
	if made := heapMade() - before; made < 32<<20 || len(kept) == 0 {
		t.Errorf("64 MiB were made, %d bytes counted", made)
	}
}

// TestCrowdLeavesFewHoles: the more lives, the less room in its proportion has a crowd.
func TestCrowdLeavesFewHoles(t *testing.T) {
	const crowd = 1000 * HeapMarks
	for live, want := range map[uint64]int{0: HeapBusy, HeapHoles / 2: HeapBusy, HeapHoles: 100, 3 * HeapHoles: 33, 1000 * HeapHoles: HeapAtRest} {
		if room, back := lookAtHeap(crowd, time.Second, &control.MemoryUse{Live: live, Free: 1 << 40}, 1); room != want || back {
			t.Errorf("%d MiB live: a room of %d %%, want %d; given back %v", live>>20, room, want, back)
		}
	}
	for _, live := range []uint64{4 * HeapHoles, 1000 * HeapHoles} {
		if room, back := lookAtHeap(0, time.Second, &control.MemoryUse{Live: live, Free: 1 << 40}, 1); room != HeapAtRest || !back {
			t.Errorf("%d MiB live, at rest a room of %d %%, given back %v", live>>20, room, back)
		}
	}
}

// TestHeapIsGivenBack: what a crowd needed is kept no longer than it is there; what the
// heap will grow into again is.
func TestHeapIsGivenBack(t *testing.T) {
	const heap = 100 << 20
	for _, c := range []struct {
		free uint64
		room int
		back bool
	}{{0, HeapAtRest, false}, {heap * HeapAtRest / 100, HeapAtRest, false}, {heap, HeapAtRest, true}, {heap / 2, 50, false}, {heap, 50, true}} {
		if got := keepsMuch(&control.MemoryUse{Heap: heap, Free: c.free}, c.room); got != c.back {
			t.Errorf("%d MiB kept for later beside a heap of %d with a room of %d %%: given back %v", c.free>>20, heap>>20, c.room, got)
		}
	}
}

// TestHeapIsGivenBackAtOnce: at the very look that finds a node at rest and its room too
// large, and at none while much goes on.
func TestHeapIsGivenBackAtOnce(t *testing.T) {
	const heap = 100 << 20
	left := &control.MemoryUse{Live: heap, Heap: heap, Free: heap}
	for made, want := range map[uint64]struct {
		room int
		back bool
	}{0: {HeapAtRest, true}, HeapMarks: {3 * HeapAtRest, true}, 1000 * HeapMarks: {mostRoom(heap), false}} {
		if room, back := lookAtHeap(made, 10*time.Second, left, 1); room != want.room || back != want.back {
			t.Errorf("%d KiB made: a room of %d %%, given back %v", made>>10, room, back)
		}
	}
	given := 0
	for look := range HeapTurns {
		if _, back := lookAtHeap(0, time.Second, &control.MemoryUse{Live: heap, Heap: heap}, look); back {
			t.Error("nothing is kept, and given back")
		}
		if _, back := lookAtHeap(0, time.Second, &control.MemoryUse{Live: heap, Heap: heap, Free: heap * HeapAtRest / 100}, look); back {
			given++
		}
		if _, back := lookAtHeap(1000*HeapMarks, time.Second, &control.MemoryUse{Live: heap, Heap: heap, Free: heap}, look); back {
			t.Error("much goes on, and memory is given back")
		}
	}
	if given != 1 {
		t.Errorf("%d of %d looks at rest give back what is room", given, HeapTurns)
	}
}

// TestRoomGrowsAtOnce: and shrinks when less was enough for five looks in a row.
func TestRoomGrowsAtOnce(t *testing.T) {
	c := heapChange{room: 10}
	for _, step := range []struct {
		room, is int
		changes  bool
	}{
		{10, 10, false}, {80, 80, true}, {90, 90, true}, {5, 90, false}, {5, 90, false}, {5, 90, false}, {5, 90, false},
		{90, 90, false}, {5, 90, false}, {5, 90, false}, {5, 90, false}, {5, 90, false}, {10, 10, true}, {5, 10, false},
	} {
		if changes := c.to(step.room); changes != step.changes || c.room != step.is {
			t.Errorf("asked for %d %%: changes %t, room of %d %%; want %+v", step.room, changes, c.room, step)
		}
	}
}

// TestSmallHeapIsCollectedRarely: a node without clients has little alive, and a tenth of
// that is made each second; what lives of thousands is room enough.
func TestSmallHeapIsCollectedRarely(t *testing.T) {
	for live, want := range map[uint64]int{
		0: HeapBusy, 1 << 20: HeapBusy, HeapLeast: 100, 2 * HeapLeast: 50, 60 << 20: 10, HeapLeast * 100 / HeapAtRest: HeapAtRest, 1 << 30: HeapAtRest,
	} {
		if got := roomOf(live, HeapAtRest); got != want {
			t.Errorf("%d KiB alive: a room of %d %%, want %d", live>>10, got, want)
		}
	}
	if got := roomOf(1<<30, 40); got != 40 {
		t.Errorf("a busy node has a room of %d %%", got)
	}
}
