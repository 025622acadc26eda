package node

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// heapMade is how many bytes were made on the heap of this process so far.
func heapMade() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// memoryUse is what this process has of memory, but for its code and the kernel's part.
func memoryUse() *control.MemoryUse {
	s := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/stacks:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/sched/goroutines:goroutines"},
	}
	metrics.Read(s)
	at := func(i int) uint64 { return s[i].Value.Uint64() }
	return &control.MemoryUse{Live: at(0), Heap: at(1) + at(2), Stacks: at(3), Free: at(4), Goroutines: at(5)}
}

// mostRoom is the most room that the heap may have, in percent of what lives: Go never
// moves what lives, so where a crowd's garbage lay between its sessions holes stay, as
// much as half of the room.
func mostRoom(live uint64) int {
	return int(min(HeapBusy, max(HeapAtRest, HeapHoles*100/max(live, 1))))
}

// heapRoom is how much more than what lives the heap may have before it is collected, in
// percent, when so many bytes were made on it in a time. Each collection marks what
// lives, so what they mark together is what is made, divided by the room: no more of it is
// given than keeps that at HeapMarks a second. At rest a crowd's room would be kept for
// nothing. busy says that so much is made that the most is given.
func heapRoom(made uint64, in time.Duration, most int) (room int, busy bool) {
	more := func() bool { return float64(made)/in.Seconds() > float64(HeapMarks*room/100) }
	for room = HeapAtRest; room < most && more(); {
		room += HeapAtRest
	}
	return min(room, most), room > HeapAtRest && room >= most || more()
}

// roomOf is a room of so many percent, or more where what lives is little: what a node
// without clients makes in a second would fill it, and each collection costs some
// milliseconds whatever lives.
func roomOf(live uint64, percent int) int {
	for percent < HeapBusy && live*uint64(percent)/100 < HeapLeast {
		percent += HeapAtRest
	}
	return min(percent, HeapBusy)
}

// keepsMuch reports whether more is kept for later than the heap will grow into with such a
// room: what a crowd needed, which Go gives back a little at a time.
func keepsMuch(u *control.MemoryUse, room int) bool {
	return u.Free > u.Heap*uint64(room+HeapSpare)/100
}

// lookAtHeap is the room that the heap is to have from now on, and whether memory is given
// back: at any look of a node that has little to do, also at the first one at which it has.
// To give back is a collection of its own, so only each HeapTurns-th look does it for what
// the heap may grow into again: into its holes first.
func lookAtHeap(made uint64, in time.Duration, use *control.MemoryUse, look int) (room int, giveBack bool) {
	room, busy := heapRoom(made, in, mostRoom(use.Live))
	room = roomOf(use.Live, room)
	keeps := room
	if look%HeapTurns == 0 {
		keeps = 0
	}
	return room, !busy && keepsMuch(use, keeps)
}

// heapChange is the room that the heap has, and since how many looks less would do.
type heapChange struct{ room, less int }

// to takes what a look found, and reports whether the room is another one now. It grows at once,
// for a crowd in the room of a heap at rest would be spent on collections, and shrinks when
// HeapCalm looks in a row found less to do.
func (c *heapChange) to(room int) bool {
	if c.less++; room >= c.room {
		c.less = 0
	}
	if room <= c.room && c.less < HeapCalm {
		return false
	}
	*c = heapChange{room: room}
	return true
}

// keepHeap keeps the heap small while this node has little to do, and gives back what a
// crowd left. Whoever set GOGC is obeyed.
func (n *Node) keepHeap(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(HeapBusy))
	ticker := time.NewTicker(HeapEvery)
	defer ticker.Stop()
	made, room := heapMade(), heapChange{room: HeapBusy}
	for look := 1; ; look++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := heapMade()
		next, giveBack := lookAtHeap(now-made, HeapEvery, memoryUse(), look)
		if room.to(next) { // to set it stops the process for a moment
			debug.SetGCPercent(room.room)
		}
		if giveBack {
			debug.FreeOSMemory()
		}
		made = now
	}
}
