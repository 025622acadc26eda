package node

import (
	"testing"
	"time"
)

// TestHeapIsSmallAtRest: there is little room while little is made, and Go's own while a
// crowd logs in; what collections mark stays the same between.
func TestHeapIsSmallAtRest(t *testing.T) {
	const second = HeapMarks // made in one, for which Go's own room is just enough
	for made, want := range map[uint64]int{
		0:               HeapAtRest,
		second / 4:      HeapAtRest,
		second/4 + 1024: 50,
		second / 2:      50,
		second/2 + 1024: HeapBusy,
		100 * second:    HeapBusy,
	} {
		if got := heapRoom(10*made, 10*time.Second); got != want {
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
