package registry

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// untold is what differs between two states and is not among what was touched.
func untold(before, after *State, touched Touched) (what []any) {
	if touched.All {
		return nil
	}
	known := func(id SessionID) bool { return slices.Contains(touched.Sessions, id) }
	for id := range union(maps.Collect(before.Sessions.All()), maps.Collect(after.Sessions.All())) {
		x, y := before.Sessions.Get(id), after.Sessions.Get(id)
		if !known(id) && (!reflect.DeepEqual(x, y) || !slices.Equal(networksOf(before, x), networksOf(after, y))) {
			what = append(what, id)
		}
	}
	for id := range union(before.Nodes, after.Nodes) {
		if !slices.Contains(touched.Nodes, id) && !reflect.DeepEqual(unspent(before.Nodes[id]), unspent(after.Nodes[id])) {
			what = append(what, id)
		}
	}
	same := reflect.DeepEqual(before.Policy, after.Policy) && before.Voters == after.Voters &&
		slices.EqualFunc(before.Parts, after.Parts, func(x, y Part) bool { return unsearched(x) == unsearched(y) })
	if !same && !touched.Mesh {
		what = append(what, "mesh")
	}
	return what
}

func union[K comparable, V any](x, y map[K]V) map[K]bool {
	all := make(map[K]bool)
	for _, m := range []map[K]V{x, y} {
		for k := range m {
			all[k] = true
		}
	}
	return all
}

func networksOf(s *State, ses *Session) (all []string) {
	if ses == nil || s.Clients.Get(ses.Client) == nil {
		return nil
	}
	for _, p := range s.Clients.Get(ses.Client).Prefixes {
		all = append(all, p.String())
	}
	return all
}

// unspent is a node without what the feed does not tell of.
func unspent(n *Node) any {
	if n == nil {
		return nil
	}
	c := *n
	c.Spent, c.SpentKept = nil, 0
	return c
}

// unsearched is the same of a part.
func unsearched(p Part) Part {
	p.Next, p.Other.Next = Range{}.Next, Range{}.Next
	return p
}

// TestFeedTellsAllChanges, over random histories and a command of each kind; and what
// is refused touches nothing.
func TestFeedTellsAllChanges(t *testing.T) {
	for seed := range uint64(20) {
		r := newRun(t, seed)
		r.s.Feed = &Feed{}
		_, mark := r.s.Touched(Mark{})
		before := r.s.Clone()
		for range 400 {
			r.step()
			var touched Touched
			if touched, mark = r.s.Touched(mark); len(untold(before, r.s, touched)) > 0 {
				t.Fatalf("seed %d, entry %d: not told of %v", seed, r.index, untold(before, r.s, touched))
			}
			before = r.s.Clone()
		}
	}
	s := New()
	s.Feed = &Feed{}
	mark := Mark{}
	for i, c := range script(t) {
		before := s.Clone()
		var touched Touched
		_, mark = s.Touched(mark)
		Apply(s, uint64(i+1), 1, c)
		touched, mark = s.Touched(mark)
		if missed := untold(before, s, touched); len(missed) > 0 {
			t.Fatalf("command %d: not told of %v", i, missed)
		}
	}
}

// TestFeedTellsLittle: one slice that comes up is one session, and a refusal nothing.
func TestFeedTellsLittle(t *testing.T) {
	f := newFixture(t)
	f.join(2)
	f.client("ann")
	f.client("bob")
	f.s.Feed = &Feed{}
	f.open(1, "ann")
	f.open(2, "bob")
	_, mark := f.s.Touched(Mark{})
	f.must(Command{MarkSlice: &MarkSlice{Session: session(1), Epoch: 1, State: SliceUp}})
	touched, mark := f.s.Touched(mark)
	if want := (Touched{Sessions: []SessionID{session(1)}}); !reflect.DeepEqual(touched, want) {
		t.Errorf("a slice came up: %+v", touched)
	}
	f.refuse(ErrNotFound, Command{EndSession: &EndSession{Session: session(9)}})
	f.wait(1)
	if touched, mark = f.s.Touched(mark); !reflect.DeepEqual(touched, Touched{}) {
		t.Errorf("nothing happened: %+v", touched)
	}
	f.must(Command{PutClient: &PutClient{Replace: true, Client: Client{Name: "bob", Prefixes: []netip.Prefix{prefix("10.1.0.0/16")}}}})
	if touched, _ = f.s.Touched(mark); !slices.Equal(touched.Sessions, []SessionID{session(2)}) {
		t.Errorf("a client's networks changed: %+v", touched)
	}
}

// TestFeedTellsOfWhatIsForgotten and of what a node says of itself anew.
func TestFeedTellsOfWhatIsForgotten(t *testing.T) {
	f := newFixture(t)
	f.join(2)
	f.client("ann")
	f.open(1, "ann")
	f.end(1)
	for i := range MaxRemoved {
		gone := node(1000 + i)
		f.s.Nodes[gone] = &Node{ID: gone, Removed: true}
	}
	f.s.Feed = &Feed{}
	_, mark := f.s.Touched(Mark{})
	for _, c := range []Command{
		{UpdateNode: &UpdateNode{ID: node(2), Capacity: 77}},
		{RemoveNode: &RemoveNode{ID: node(2)}},
		{AdvanceTick: &AdvanceTick{Elapsed: EndedKept}},
	} {
		before := f.s.Clone()
		f.must(c)
		var touched Touched
		if touched, mark = f.s.Touched(mark); len(untold(before, f.s, touched)) > 0 || touched.All {
			t.Errorf("%+v: not told of %v", c, untold(before, f.s, touched))
		}
	}
	if len(f.s.Nodes) > MaxRemoved+1 || f.s.Sessions.Len() > 0 {
		t.Fatal("nothing was forgotten")
	}
}

// TestFeedForgets: who is new, was away for too long, or whose state was replaced,
// is told to look at everything; nobody else is (I10).
func TestFeedForgets(t *testing.T) {
	s := New()
	s.Feed = &Feed{}
	all := func(m Mark) bool { touched, _ := s.Touched(m); return touched.All }
	if !all(Mark{}) {
		t.Error("a new reader is told of changes alone")
	}
	_, slow := s.Touched(Mark{})
	for i := range MaxTouched {
		s.touchSession(session(i))
		s.touchNode(identity.NodeID{byte(i)})
	}
	touched, quick := s.Touched(slow)
	if touched.All || len(touched.Sessions) != MaxTouched || len(touched.Nodes) != 256 {
		t.Errorf("at the limit: all %v, %d sessions, %d nodes", touched.All, len(touched.Sessions), len(touched.Nodes))
	}
	s.touchSession(session(0))
	if !all(slow) || all(quick) || len(s.Feed.sessions.kept) != MaxTouched {
		t.Error("beyond the limit")
	}
	if s.Feed.Replaced(); !all(quick) {
		t.Error("the state is another one")
	}
	if s.Clone().Feed != nil {
		t.Error("a clone is told of")
	}
}
