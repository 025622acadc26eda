package agent

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// usages is what was reported, by slice, in reports since the last call; the last word
// counts. whole says whether a report named all slices that there are.
func (f *fixture) usages() (rows map[sliceKey]protocol.SliceUsage, count int, whole bool) {
	rows = map[sliceKey]protocol.SliceUsage{}
	for _, m := range saying(f, func(m *protocol.Node) *protocol.Usage { return m.Usage }) {
		whole = whole || !m.Changes
		count += len(m.Slices)
		for _, u := range m.Slices {
			rows[keyOf(u.Slice)] = u
		}
	}
	return rows, count, whole
}

// TestUsageTellsWhatChanged: an arbiter that takes changes hears of all slices once,
// then of those that moved something or whose clients are heard; a new one, and one of
// an older build, hears of all.
func TestUsageTellsWhatChanged(t *testing.T) {
	const report = UsageTicks * TickEvery
	f := newFixture(t)
	hear := func(takes bool) {
		f.obey(5)
		v := f.ruled()
		v.Changes, v.Slices = takes, f.slices.held()
		f.hear(&protocol.Node{View: v})
	}
	hear(true)
	c := f.customer(f.offered()[0], nil).up()
	f.crowd(50)
	f.advance(report)
	if _, count, whole := f.usages(); count != 51 || !whole {
		t.Fatalf("first %d rows, whole %v", count, whole)
	}
	f.advance(3 * report)
	if _, count, _ := f.usages(); count != 0 {
		t.Errorf("%d rows of slices at rest", count)
	}
	for range 30 { // a client that is heard all the time
		c.ping()
		f.advance(report)
	}
	if rows, count, whole := f.usages(); len(rows) != 1 || count > 4 || whole {
		t.Errorf("%d rows of %d slices, whole %v, of a client that is heard for a minute", count, len(rows), whole)
	}
	f.advance(HeardEvery + report) // the last word of it is told, and then nothing
	rows, _, _ := f.usages()
	if quiet := rows[c.sliceKey()].Quiet; len(rows) != 1 || quiet > uint64((HeardEvery+report)/time.Second) {
		t.Errorf("%+v after the last word", rows)
	}
	c.ping()
	f.advance(report)
	if rows, _, _ := f.usages(); rows[c.sliceKey()].Quiet > uint64(report/time.Second)+1 {
		t.Errorf("heard after a silence, and told %+v", rows)
	}
	hear(true)
	f.advance(report)
	if _, count, whole := f.usages(); count != 51 || !whole {
		t.Errorf("a new stream is told %d rows, whole %v", count, whole)
	}
	hear(false)
	f.advance(2 * report)
	if _, count, whole := f.usages(); count != 2*51 || !whole {
		t.Errorf("an arbiter that takes no changes is told %d rows in two reports, whole %v", count, whole)
	}
}
