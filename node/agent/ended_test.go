package agent

import (
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

func freed(m *protocol.Node) *protocol.Sessions { return m.Freed }

// TestFreedWhenNothingRuns: the arbiter hears that a session's end is complete when
// the last slice of it has gone, lingering ones too, and not before; at once of what
// this agent never held (I13).
func TestFreedWhenNothingRuns(t *testing.T) {
	f := newFixture(t).ready()
	keys := f.offered()
	c := f.customer(keys[0], nil).up()
	other := f.customer(keys[1], nil).up()
	id, never := c.sliceKey().session, registry.SessionID{0xee}
	f.hear(&protocol.Node{Revoke: &protocol.Revoke{Slice: c.sliceKey().ref(), Linger: 5}})
	f.hear(&protocol.Node{Ended: &protocol.Sessions{Sessions: []registry.SessionID{id, never}}})
	if said := saying(f, freed); len(said) != 1 || !slices.Equal(said[0].Sessions, []registry.SessionID{never}) {
		t.Fatalf("said %+v while a slice lingers", said)
	}
	f.advance(4 * time.Second)
	if said := saying(f, freed); len(said) != 0 || f.slices.byKey[c.sliceKey()] == nil {
		t.Fatalf("said %+v while a slice lingers", said)
	}
	f.advance(2 * time.Second)
	if said := saying(f, freed); len(said) != 1 || !slices.Equal(said[0].Sessions, []registry.SessionID{id}) || f.slices.byKey[c.sliceKey()] != nil {
		t.Fatalf("said %+v", said)
	}
	f.hear(&protocol.Node{Ended: &protocol.Sessions{Sessions: []registry.SessionID{other.sliceKey().session}}})
	if said := saying(f, freed); len(said) != 1 || f.slices.byKey[other.sliceKey()] != nil {
		t.Fatalf("an epoch that was not revoked by name still runs; said %+v", said)
	}
}

// TestFreedIsOutOfTheTables before the arbiter hears of it, which may give its address to
// another session (I13).
func TestFreedIsOutOfTheTables(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	s := f.slices.byKey[c.sliceKey()]
	spi := pages.Number(s.grant.SPI)
	if f.tables.in.Get(spi) == nil {
		t.Fatal("not in them before")
	}
	f.takeEnded(&protocol.Sessions{Sessions: []registry.SessionID{c.sliceKey().session}})
	if f.pump(); len(saying(f, freed)) != 1 || f.tables.in.Get(spi) != nil || f.tables.granted.Get(spi) != nil {
		t.Error("the arbiter hears of it before")
	}
}

// TestQuestionsEndWithTheirStream: what an arbiter asked is not answered to the next.
func TestQuestionsEndWithTheirStream(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.hear(&protocol.Node{Revoke: &protocol.Revoke{Slice: c.sliceKey().ref(), Linger: 5}})
	f.hear(&protocol.Node{Ended: &protocol.Sessions{Sessions: []registry.SessionID{c.sliceKey().session}}})
	saying(f, freed)
	f.obey(6)
	f.advance(6 * time.Second)
	if said := saying(f, freed); len(said) != 0 || f.slices.byKey[c.sliceKey()] != nil {
		t.Fatalf("answered %+v", said)
	}
}

func TestMaxEnded(t *testing.T) { // I10
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	for i := range MaxEnded {
		f.ended[registry.SessionID{0xee, byte(i >> 16), byte(i >> 8), byte(i)}] = true
	}
	f.hear(&protocol.Node{Ended: &protocol.Sessions{Sessions: []registry.SessionID{c.sliceKey().session}}})
	if f.slices.byKey[c.sliceKey()] == nil {
		t.Error("one more was taken")
	}
}
