package loop

import (
	"slices"
	"testing"
	"testing/synctest"
)

// TestOutboxHasOneWriter: two would mix up what was said one after the other.
func TestOutboxHasOneWriter(t *testing.T) {
	o := outbox[int]{room: 4}
	said := []int{1, 2, 3, 4}
	due := func(m *int) bool {
		t.Helper()
		fits, due := o.put(m)
		if !fits {
			t.Fatal("no room")
		}
		return due
	}
	if due(&said[0]) {
		t.Error("somebody is to write before the stream runs")
	}
	if !o.begin() || o.begin() || due(&said[1]) {
		t.Error("not one writer for what waits")
	}
	next := func() (all []int) {
		for _, m := range o.next() {
			all = append(all, *m)
		}
		return all
	}
	if !slices.Equal(next(), said[:2]) || due(&said[2]) || !slices.Equal(next(), said[2:3]) {
		t.Error("a second writer while the first one is at it, or what waits is not written together")
	}
	if next() != nil || !due(&said[3]) || !slices.Equal(next(), said[3:]) {
		t.Error("no writer once the first one had nothing left")
	}
}

// TestOutboxGivesSoMany at once and no more, in their order, and takes all of several messages
// or none.
func TestOutboxGivesSoMany(t *testing.T) {
	o := outbox[int]{room: together + 2, open: true}
	if fits, due := o.put(make([]*int, together+1)...); !fits || !due {
		t.Error("no room")
	}
	last := new(int)
	if fits, _ := o.put(new(int), new(int)); fits || o.len() != together+1 {
		t.Error("a part of what has no room is in it")
	}
	o.put(last)
	if first, rest := o.next(), o.next(); len(first) != together || len(rest) != 2 || rest[1] != last {
		t.Errorf("%d and %d at once", len(first), len(rest))
	}
}

// TestOutboxHoldsWhatWaits: neither what was taken nor the room of a burst stays in memory,
// for a connection may be silent for days; and there is an end to its room.
func TestOutboxHoldsWhatWaits(t *testing.T) {
	o := outbox[int]{room: 2}
	for i := range 2 {
		if fits, _ := o.put(&i); !fits {
			t.Fatal("no room")
		}
	}
	if fits, _ := o.put(new(int)); fits {
		t.Error("there is more room than there is to be")
	}
	burst := o.queue
	if o.take(); burst[0] != nil {
		t.Error("what was taken is held")
	}
	if o.take(); o.queue != nil {
		t.Error("the room of a burst is held")
	}
}

// TestOutboxEnds: after that nothing is written, and nobody still writes.
func TestOutboxEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := outbox[int]{room: 4}
		o.put(new(int))
		o.begin()
		o.next() // and it is being written
		o.put(new(int))
		ended := false
		go func() { o.end(); ended = true }()
		synctest.Wait()
		if ended {
			t.Error("it has ended while somebody writes")
		}
		if o.next() != nil {
			t.Error("what waits is written after the end")
		}
		synctest.Wait()
		if _, due := o.put(new(int)); due || !ended {
			t.Errorf("ended: %v, and somebody is to write: %v", ended, due)
		}
	})
}
