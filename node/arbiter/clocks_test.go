package arbiter

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/clocks"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// hasTime has a node say with its load that its clock is ahead by so much.
func (q *quorum) hasTime(n *nodeStream, ahead time.Duration) {
	nodeSaid{n, &protocol.Node{Load: &protocol.Load{Used: 0.1, Wall: time.Now().Add(ahead).UnixMilli()}}}.apply(q.a)
}

// clocks are those that the nodes are told of, by node.
func (q *quorum) clocks() map[identity.NodeID]int64 {
	q.a.tendClocks()
	wrong := make(map[identity.NodeID]int64)
	for _, row := range q.a.book.nodes {
		if row.Clock != 0 {
			wrong[row.ID] = row.Clock
		}
	}
	return wrong
}

// TestLeaderWithAWrongClockGivesWay: two voters' word against its own ends the term. One
// word does not, for nobody knows which of two clocks is right.
func TestLeaderWithAWrongClockGivesWay(t *testing.T) {
	q := newQuorum(t)
	q.hasTime(q.second, 0)
	q.hasTime(q.third, time.Second)
	if wrong := q.clocks(); len(wrong) != 0 || q.a.quit != nil {
		t.Fatalf("clocks that agree: %v, %v", wrong, q.a.quit)
	}
	q.ahead.Store(int64(time.Hour))
	q.hasTime(q.a.nodes[q.own], time.Hour) // its own agent's word is no second one
	delete(q.a.nodes, q.third.node)
	if wrong := q.clocks(); len(wrong) != 0 || q.a.quit != nil {
		t.Errorf("one against one: %v, %v", wrong, q.a.quit)
	}
	q.a.nodes[q.third.node] = q.third
	if wrong := q.clocks(); wrong[q.own] < 3590 || wrong[q.own] > 3610 || len(wrong) != 1 || q.a.quit == nil {
		t.Errorf("two against one: %v, %v", wrong, q.a.quit)
	}
}

// TestElectedWithAWrongClock: no voter can open a stream then, so it is their answers
// that count.
func TestElectedWithAWrongClock(t *testing.T) {
	q := newQuorum(t)
	base := q.a.shows(time.Now())
	clear(q.a.nodes)
	q.ahead.Store(int64(-2 * time.Hour))
	q.asked = []clocks.Reading{{Node: q.second.node, Voter: true, Shows: base}, {Node: q.third.node, Voter: true, Shows: base}}
	if q.clocks(); q.a.quit == nil {
		t.Error("it leads on")
	}
}

// TestWrongClockOfAnotherIsTold: of a voter that is cut off for it, of a node, and under
// one voter, where the nodes' clocks are worth a warning and end no term.
func TestWrongClockOfAnotherIsTold(t *testing.T) {
	q := newQuorum(t)
	fourth := q.member(q.a, "n4", dataRoles)
	q.hasTime(q.second, 0)
	q.hasTime(fourth, -time.Hour)
	delete(q.a.nodes, q.third.node)
	q.asked = []clocks.Reading{{Node: q.third.node, Voter: true, Shows: q.a.shows(time.Now().Add(24 * time.Hour))}}
	if wrong := q.clocks(); len(wrong) != 2 || wrong[fourth.node] > -3590 || wrong[q.third.node] < 86300 || q.a.quit != nil {
		t.Errorf("%v, %v", wrong, q.a.quit)
	}
	q.asked = nil
	q.a.nodes[q.third.node] = q.third
	q.hasTime(q.third, 0)
	q.hasTime(fourth, 0)
	if wrong := q.clocks(); len(wrong) != 0 {
		t.Errorf("set right: %v", wrong)
	}
	for i := range q.store.servers {
		q.store.servers[i].Voter = q.store.servers[i].ID == q.own
	}
	q.ahead.Store(int64(time.Hour))
	if wrong := q.clocks(); len(wrong) != 1 || wrong[q.own] == 0 || q.a.quit != nil {
		t.Errorf("a sole voter: %v, %v", wrong, q.a.quit)
	}
}
