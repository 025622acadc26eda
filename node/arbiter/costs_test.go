package arbiter

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/e2e/cost"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// crowd puts nodes with streams and sessions into the registry: four slices each, on
// agents that differ.
func (f *fixture) crowd(a *Arbiter, nodes, sessions int) {
	f.store.View(func(s *registry.State) {
		ids := make([]identity.NodeID, nodes)
		for i := range ids {
			binary.BigEndian.PutUint32(ids[i][:], uint32(i+1))
			s.Nodes[ids[i]] = &registry.Node{ID: ids[i], Index: identity.Index(i + 2), Name: fmt.Sprint("n", i+2), Is: dataRoles,
				Outer: netip.MustParseAddrPort("192.0.2.9:6484"), Inside: netip.MustParseAddr("10.0.0.9")}
			a.nodes[ids[i]] = stub(f.TB, ids[i])
		}
		for i := range sessions {
			s.Sessions.Put(crowded(i), crowdMember(i, ids))
		}
	})
}

func crowded(i int) (id registry.SessionID) {
	binary.BigEndian.PutUint32(id[:], uint32(i+1))
	return id
}

// crowdMember is the i-th session of a crowd.
func crowdMember(i int, ids []identity.NodeID) *registry.Session {
	s := &registry.Session{
		ID: crowded(i), Client: fmt.Sprint("c", i%100), State: registry.SessionActive, Mode: registry.ModeAuto,
		Egress: ids[i%len(ids)], Second: ids[(i+1)%len(ids)],
		Leases: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
	}
	for n := range 4 {
		s.Slices = append(s.Slices, registry.Slice{Number: uint8(n), Epoch: 1, Agent: ids[(i*7+n)%len(ids)], State: registry.SliceUp, SPI: uint32(n), Weight: 1})
	}
	return s
}

// write takes what was said to all nodes and writes it nowhere: how many messages, how
// many of them had to be encoded, and how many rows are in those.
func write(a *Arbiter) (messages, encoded, rows int) {
	written := make(map[*protocol.Node]bool)
	conn := protocol.NewStream(nowhere{})
	for _, n := range a.nodes {
		for m := n.Take(); m != nil; m = n.Take() {
			_ = conn.Write(m)
			if messages++; !written[m] {
				v := m.View
				written[m], encoded = true, encoded+1
				rows += len(v.Nodes) + len(v.Parts) + len(v.Routes) + len(v.Rules) + len(v.Unroutes) + len(v.Unrules)
			}
		}
	}
	return messages, encoded, rows
}

// nowhere is where frames go that nobody reads.
type nowhere struct{ io.Reader }

func (nowhere) Write(b []byte) (int, error) { return len(b), nil }

// TestCommitCosts holds what one commit costs, in work: as many rows are compared and
// encoded as changed, whatever there is, and what many are told is encoded once.
func TestCommitCosts(t *testing.T) {
	for _, size := range []struct{ nodes, sessions int }{{3, 10_000}, {1_000, 1_000}} {
		f := newFixture(t)
		f.store.state.Feed = &registry.Feed{}
		a := f.still()
		f.crowd(a, size.nodes, size.sessions)
		a.pushViews()
		for _, n := range a.nodes {
			if v := views(n); len(v) != 1 || !v[0].Full || len(v[0].Nodes) != size.nodes+1 {
				t.Fatalf("%d nodes: %d views at first", size.nodes, len(v))
			}
		}
		costs := func(what string, most [4]int) {
			t.Helper()
			before := a.book.rows
			a.pushViews()
			messages, encoded, rows := write(a)
			if got := [4]int{a.book.rows - before, messages, encoded, rows}; got[0] > most[0] || got[1] > most[1] || got[2] > most[2] || got[3] > most[3] || most[1] > 0 && messages == 0 {
				t.Errorf("%d nodes, %d sessions, %s: %v rows compared, messages, encoded, rows encoded; at most %v", size.nodes, size.sessions, what, got, most)
			}
		}
		costs("nothing", [4]int{})
		f.weighed(7, 9)
		costs("a session's weights", [4]int{1, 2, 1, 1})
		f.moved(2, 99)
		costs("a node's address", [4]int{2, size.nodes, 1, 1})
		f.commit(registry.Command{EndSession: &registry.EndSession{Session: crowded(7)}})
		costs("a session's end", [4]int{1, 6, 2, 3})
		f.commit(registry.Command{AdvanceTick: &registry.AdvanceTick{Elapsed: 5}})
		costs("time", [4]int{})
	}
}

// BenchmarkScale is the CPU that one commit costs the arbiter, with the frames that are
// written: of a session's weights, or of a node's address, which everybody is told.
func BenchmarkScale(b *testing.B) {
	for _, size := range []struct{ nodes, sessions int }{{3, 1_000}, {3, 10_000}, {3, 100_000}, {1_000, 1_000}, {1_000, 10_000}} {
		f := newFixture(b)
		f.store.state.Feed = &registry.Feed{}
		a := f.still()
		f.crowd(a, size.nodes, size.sessions)
		a.pushViews()
		write(a)
		changes := map[string]func(i int){
			"session": func(i int) { f.weighed(i%size.sessions, uint32(i+2)) },
			"node":    func(i int) { f.moved(uint32(1+i%size.nodes), uint16(i)) },
		}
		for _, of := range []string{"session", "node"} {
			b.Run(fmt.Sprintf("views_of_a_commit,_of_a_%s/nodes=%d/sessions=%d", of, size.nodes, size.sessions), func(b *testing.B) {
				cost.Measure(b, changes[of], func(int) {
					a.pushViews()
					write(a)
				})
			})
		}
	}
}

// TestOpeningCosts: a stream that opens is told of all members by one copy of their rows;
// to sort them each time was half of what a thousand streams at once cost the loop.
func TestOpeningCosts(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	f.crowd(a, 1_000, 0)
	a.pushViews()
	var v *protocol.View
	if made := testing.AllocsPerRun(10, func() { v = a.book.whole(identity.NodeID{}) }); made > 4 {
		t.Errorf("%.0f things made", made)
	}
	if len(v.Nodes) != len(a.book.nodes) || !slices.IsSortedFunc(v.Nodes, func(x, y protocol.NodeRow) int { return int(x.Index) - int(y.Index) }) {
		t.Errorf("%d rows of %d nodes, or not in order", len(v.Nodes), len(a.book.nodes))
	}
}

// TestRowsInOrder: whatever becomes of the members, the rows in order are those there are.
func TestRowsInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	b, w := newBook(), news{}
	for range 2_000 {
		id := identity.NodeID{byte(r.IntN(30))}
		row := &protocol.NodeRow{ID: id, Index: identity.Index(1 + r.IntN(12)), Up: r.IntN(2) == 0}
		if r.IntN(3) == 0 {
			row = nil
		}
		b.enterNode(id, row, &w)
		for i, row := range b.ordered {
			if b.nodes[row.ID] != row || i > 0 && b.ordered[i-1].Index > row.Index {
				t.Fatalf("row %d is %+v, of %+v", i, row, b.nodes[row.ID])
			}
		}
		if len(b.ordered) != len(b.nodes) {
			t.Fatalf("%d rows of %d nodes", len(b.ordered), len(b.nodes))
		}
	}
}

// weighed commits another weight of a session's first slice.
func (f *fixture) weighed(i int, weight uint32) {
	f.commit(registry.Command{WeighSlices: &registry.WeighSlices{Session: crowded(i), Weights: []registry.SliceWeight{{Epoch: 1, Weight: weight}}}})
}

// moved commits another address of a node.
func (f *fixture) moved(i uint32, port uint16) {
	var id identity.NodeID
	binary.BigEndian.PutUint32(id[:], i)
	f.commit(registry.Command{UpdateNode: &registry.UpdateNode{ID: id, Inside: netip.MustParseAddr("10.0.0.9"),
		Outer: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.9"), port)}})
}
