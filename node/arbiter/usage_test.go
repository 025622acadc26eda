package arbiter

import (
	"reflect"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestUsageByChange: a report of changes leaves the rest as it was, one of everything
// does not, and a slice that is gone has none.
func TestUsageByChange(t *testing.T) {
	s := newCrasher(t)
	if !s.a.book.whole(s.peer.node).Changes {
		t.Error("nodes are not told that changes are taken")
	}
	say := func(m *protocol.Node) { nodeSaid{s.peer, m}.apply(s.a) }
	ref := func(n byte) protocol.SliceRef { return protocol.SliceRef{Session: registry.SessionID{n}, Epoch: 1} }
	used := func(n byte, in uint64) protocol.SliceUsage { return protocol.SliceUsage{Slice: ref(n), In: in} }
	expect := func(what string, want ...uint64) {
		t.Helper()
		for n, in := range want {
			if got := s.peer.usage[keyOf(ref(byte(n)))]; got.in != in {
				t.Errorf("%s: slice %d moved %d, want %d", what, n, got.in, in)
			}
		}
	}
	say(&protocol.Node{Usage: &protocol.Usage{Slices: []protocol.SliceUsage{used(0, 1), used(1, 2), used(2, 3)}}})
	say(&protocol.Node{Usage: &protocol.Usage{Changes: true, Slices: []protocol.SliceUsage{used(1, 7)}}})
	expect("changes", 1, 7, 3)
	gone := ref(0)
	say(&protocol.Node{Gone: &gone})
	expect("one is gone", 0, 7, 3)
	say(&protocol.Node{Usage: &protocol.Usage{Slices: []protocol.SliceUsage{used(2, 9)}}})
	expect("all anew", 0, 0, 9)
	if len(s.peer.usage) != 1 {
		t.Errorf("%d slices are kept", len(s.peer.usage))
	}
}

// TestUsageIsSmall: the arbiter has a row of it for each slice of all agents.
func TestUsageIsSmall(t *testing.T) {
	if row := reflect.TypeFor[sliceKey]().Size() + reflect.TypeFor[moved]().Size(); row > 64 {
		t.Errorf("a row takes %d bytes", row)
	}
}
