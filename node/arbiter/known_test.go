package arbiter

import (
	"context"
	"crypto/rand"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestHistoryIsTold: to all nodes when it went on, signed, and to a new stream at once.
func TestHistoryIsTold(t *testing.T) {
	q := newQuorum(t)
	q.a.cluster.ID = q.store.state.Cluster.ID
	said := func(n *nodeStream) (all []protocol.Known) {
		for m := n.Take(); m != nil; m = n.Take() {
			if m.Known != nil {
				all = append(all, *m.Known)
			}
		}
		return all
	}
	said(q.second)
	q.store.index = 50
	q.a.tellKnown(time.Minute)
	q.a.tellKnown(time.Minute + time.Millisecond)
	q.a.tellKnown(2 * time.Minute)
	all := said(q.second)
	if len(all) != 1 || all[0].Index != 50 || all[0].Term != q.a.term || !q.a.believes(all[0]) {
		t.Errorf("%+v", all)
	}
	q.store.index++
	q.a.tellKnown(3 * time.Minute)
	if all := said(q.third); len(all) != 2 || all[0].Index != 50 || all[1].Index != 51 {
		t.Errorf("%+v", all)
	}
	back := stub(t, q.second.node)
	nodeOpened{back}.apply(q.a)
	if all := said(back); len(all) != 1 || all[0].Index != 51 {
		t.Errorf("a new stream is told %+v", all)
	}
	first := stub(t, q.third.node)
	nodeOpened{first}.apply(q.a)
	viewed := false
	for m := first.Take(); m != nil; m = first.Take() {
		if viewed = viewed || m.View != nil; m.Known != nil && !viewed {
			t.Error("who starts for the first time is told before it knows a member")
		}
	}
	q.third = first
	q.store.index++
	q.a.term++ // as if the log were in another one by now
	q.a.tellKnown(4 * time.Minute)
	if all := said(q.third); len(all) != 0 {
		t.Errorf("signed with this term's fence, of another term's log: %+v", all)
	}
}

// TestRevocationIsToldAtOnce: not with the next word on the log, and to be kept.
func TestRevocationIsToldAtOnce(t *testing.T) {
	q := newQuorum(t)
	q.store.index = 50
	q.a.tellKnown(time.Minute)
	q.store.index, q.store.denied = 52, 51
	q.a.tellKnown(time.Minute + time.Millisecond)
	if k := q.a.known; k.Index != 52 || !k.Keep {
		t.Errorf("%+v", k)
	}
	q.store.index++
	q.a.tellKnown(time.Minute + 2*time.Millisecond)
	if q.a.known.Index != 52 {
		t.Error("what is no revocation does not wait")
	}
	q.a.tellKnown(2 * time.Minute)
	if k := q.a.known; k.Index != 53 || k.Keep {
		t.Errorf("%+v", k)
	}
}

// TestLostHistoryIsNamed: what a node was told by an arbiter and the log lacks is said. A
// node's own word is none.
func TestLostHistoryIsNamed(t *testing.T) {
	q := newQuorum(t)
	q.a.cluster.ID = q.store.state.Cluster.ID
	missed := func(k protocol.Known) string {
		q.a.missed = ""
		q.second.hello.Known = &k
		q.a.hearKnown(q.second)
		r, done := Report{}, make(chan struct{})
		go func() { defer close(done); r, _ = q.a.Report(context.Background()) }()
		(<-q.a.events).apply(q.a)
		<-done
		return r.Missed
	}
	key, fence := q.trust.Key, protocol.Fence{Incarnation: 1, Term: 2}
	far := protocol.SignKnown(key, q.a.cluster.ID, fence, q.store.index+9, "")
	if said := missed(far); !strings.Contains(said, "n2 was told of changes") || !strings.Contains(said, "meshcrypt client list") {
		t.Errorf("%q", said)
	}
	if said := missed(protocol.SignKnown(key, q.a.cluster.ID, fence, q.store.index, lostLeadership)); !strings.Contains(said, "n2 was told of changes") {
		t.Errorf("of another leadership of the term: %q", said)
	}
	forged := far
	forged.Index++
	agent, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	q.store.state.Nodes[agent.ID()] = &registry.Node{ID: agent.ID(), Key: agent.Public(), May: registry.RoleAgent | registry.RoleGateway}
	for name, k := range map[string]protocol.Known{
		"what there is": protocol.SignKnown(key, q.a.cluster.ID, fence, q.store.index, ""), "a forged one": forged,
		"one of a node that may not vote": protocol.SignKnown(agent, q.a.cluster.ID, fence, q.store.index+9, ""),
		"another mesh's":                  protocol.SignKnown(key, identity.ClusterID{9}, fence, q.store.index+9, ""),
	} {
		if said := missed(k); said != "" {
			t.Errorf("%s: %q", name, said)
		}
	}
}
