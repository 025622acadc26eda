package consensus

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func TestOutlivesItsLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	for range 5 {
		c.must(c.nodes[0], tick(1))
	}
	c.agree(5)
	before := c.nodes[0].look().Term
	c.stop(0)
	next := c.leader()
	if next.look().Term <= before {
		t.Fatalf("term %d after %d", next.look().Term, before)
	}
	if got, ok := next.Leader(); !ok || got != next.id {
		t.Fatalf("leader %s", got.Short())
	}
	c.must(next, tick(1))
	c.start(0, false)
	c.agree(6)
	if n := len(c.nodes[0].Servers()); n != 3 {
		t.Fatalf("%d servers", n)
	}
}

func TestFollowerRefusesProposals(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	leader := c.leader()
	follower := c.nodes[(c.number(leader)+1)%3]
	if _, err := follower.Propose(c.ctx(), c.command(tick(1))); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("got %v", err)
	}
	if err := follower.Barrier(c.ctx()); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("got %v", err)
	}
	if err := follower.AddVoter(c.ctx(), id(7)); !errors.Is(err, ErrNotLeader) {
		t.Fatalf("got %v", err)
	}
	c.until("the follower knows the leader", func() bool { got, _ := follower.Leader(); return got == leader.id })
	if s := follower.Stats(); s.Leader || s.LastContact.IsZero() || s.Term == 0 || s.Stored == 0 {
		t.Fatalf("stats %+v", s)
	}
}

// A leader that is cut off does not know what became of its proposal; the next
// leader applies the same command once, however often it is proposed.
func TestUnknownOutcomeIsRetriedOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	old := c.leader()
	c.agree(0)
	c.network.isolate(old.id)
	command := c.command(tick(1))
	if _, err := old.Propose(c.ctx(), command); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("got %v", err)
	}
	next := c.leader()
	for range 3 {
		if _, err := next.Propose(c.ctx(), command); err != nil {
			t.Fatal(err)
		}
	}
	c.network.heal(old.id)
	c.must(next, tick(1))
	c.agree(2)
}

func TestRefusalIsAResult(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	result, err := c.nodes[0].Propose(c.ctx(), c.command(registry.Command{Found: founding()}))
	if err != nil || !errors.Is(result.Err(), registry.ErrFounded) || result.Index == 0 {
		t.Fatalf("result %+v, %v", result, err)
	}
	if _, err := c.nodes[0].Propose(c.ctx(), registry.Command{}); !errors.Is(err, registry.ErrMalformed) {
		t.Fatalf("got %v", err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.nodes[0].Propose(ended, c.command(tick(1))); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
}

func TestLeadershipIsTold(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	leader := c.leader()
	term := leader.look().Term
	for seen := range leader.Leadership() {
		if seen.Leader {
			if seen.Term < term || seen.ID != leader.id { // later, if it lost the lead and got it again
				t.Fatalf("told %+v, leads in %d", seen, term)
			}
			break
		}
	}
	c.until("the lead is passed on", func() bool {
		return leader.TransferLeadership(c.ctx()) == nil || !leader.look().Leader
	})
	for seen := range leader.Leadership() {
		if !seen.Leader {
			break
		}
	}
	if next := c.leader(); next.look().Term <= term {
		t.Fatalf("leads on in %d", next.look().Term)
	}
}

// TestLeadershipGoesToTheOneNamed, and to no standby.
func TestLeadershipGoesToTheOneNamed(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	for range 2 {
		leader := c.leader()
		heir := c.nodes[(c.number(leader)+1)%3]
		c.must(leader, tick(1))
		c.until("the heir leads", func() bool {
			now := c.leader()
			term := now.look().Term
			if now == heir {
				return true
			}
			err := now.TransferLeadershipTo(c.ctx(), heir.id)
			if next := c.leader(); err == nil && next != heir && next.look().Term == term+1 {
				t.Errorf("node %d leads, not %d", c.number(next), c.number(heir))
			}
			return false
		})
	}
	leader := c.leader()
	if err := leader.TransferLeadershipTo(c.ctx(), identity.NodeID{9}); err == nil {
		t.Error("the lead was given to a stranger")
	}
}

func TestChangesAreSignalled(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	leader := c.leader()
	follower := c.nodes[(c.number(leader)+1)%3]
	c.must(leader, tick(1))
	for range follower.Changes() {
		if ticks(follower) == 1 {
			return
		}
	}
}

func TestMembership(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	leader := c.leader()
	gone := (c.number(leader) + 1) % 3
	c.byLeader("it goes", func(leader *Raft) error { return leader.RemoveServer(c.ctx(), id(gone)) })
	c.byLeader("it comes back", func(leader *Raft) error { return leader.AddStandby(c.ctx(), id(gone)) })
	leader = c.leader()
	for _, s := range leader.Servers() {
		if s.Voter == (s.ID == id(gone)) {
			t.Fatalf("servers %+v", leader.Servers())
		}
	}
	c.must(leader, tick(1))
	c.agree(1) // a standby keeps the whole log
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	if _, err := Open(c.listening(0)); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("got %v", err)
	}
	c.stop(0)
	again := c.listening(0)
	again.Bootstrap = true
	if _, err := Open(again); !errors.Is(err, ErrHasState) {
		t.Fatalf("got %v", err)
	}
	c.start(0, false)
	c.leader()
}

func TestClosedReplica(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	r := c.nodes[0]
	c.ok(r.Close())
	c.ok(r.Close())
	if _, err := r.Propose(c.ctx(), c.command(tick(1))); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
	if err := r.Barrier(c.ctx()); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
}

func TestCloseLeaksNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	c := newCluster(t, 3, nil)
	c.must(c.leader(), tick(1))
	for n := range c.nodes {
		c.stop(n)
	}
	c.until("every goroutine has ended", func() bool { return runtime.NumGoroutine() <= before })
}

// TestRevocationsAreCounted: the newest that was done, and no refused one.
func TestRevocationsAreCounted(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	leader := c.leader()
	c.must(leader, registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "eve"}}})
	if at := leader.Stats().Denied; at != 0 {
		t.Errorf("at %d", at)
	}
	done := c.must(leader, registry.Command{RevokeClient: &registry.RevokeClient{Name: "eve"}})
	_, err := leader.Propose(c.ctx(), c.command(registry.Command{RevokeClient: &registry.RevokeClient{Name: "nobody"}}))
	c.ok(err)
	c.must(leader, tick(1))
	c.agree(1)
	for n, r := range c.nodes {
		if at := r.Stats().Denied; at != done.Index {
			t.Errorf("replica %d: at %d, not %d", n, at, done.Index)
		}
	}
}

// What no version takes for a command changes nothing and hurts nobody.
func TestGarbageInTheLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, nil)
	leader := c.leader()
	for _, garbage := range []string{"", "\x00\xff", "mcrc\x01{", "mcrc\x01{}", `{"id":3}`} {
		future := leader.raft.Apply([]byte(garbage), 0)
		c.ok(future.Error())
		if result := future.Response().(registry.Result); !errors.Is(result.Err(), registry.ErrUnknown) {
			t.Fatalf("%q: %+v", garbage, result)
		}
	}
	c.must(leader, tick(1))
	c.agree(1)
}

// A command that only a newer build knows stops this one, loudly, before it holds
// another state than the others; it takes no snapshot that would hide the entry.
func TestNewerCommandStopsTheReplica(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	r := c.nodes[0]
	c.ok(r.raft.Apply(append([]byte("mcrc"), registry.CommandVersion+1, '{', '}'), 0).Error())
	if err := <-r.Failed(); !errors.Is(err, ErrFailed) || !errors.Is(err, registry.ErrNewer) {
		t.Fatalf("got %v", err)
	}
	if _, err := r.Propose(c.ctx(), c.command(tick(1))); !errors.Is(err, ErrFailed) {
		t.Fatalf("got %v", err)
	}
	future := r.raft.Apply(encoded(t, c.command(tick(1))), 0)
	c.ok(future.Error())
	if ticks(r) != 0 {
		t.Fatal("it applies on")
	}
	if err := r.Snapshot(c.ctx()); err == nil || !strings.Contains(err.Error(), ErrFailed.Error()) {
		t.Fatalf("got %v", err)
	}
}

func encoded(t *testing.T, c registry.Command) []byte {
	t.Helper()
	raw, err := registry.EncodeCommand(c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestServersAreAddressedByNodeID(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, nil)
	future := c.nodes[0].raft.GetConfiguration()
	c.ok(future.Error())
	for _, s := range future.Configuration().Servers {
		if string(s.ID) != id(0).String() || string(s.Address) != id(0).String() {
			t.Fatalf("server %+v", s)
		}
	}
	l := newLayer(c.network.layer(id(5)), id(5))
	defer l.Close()
	if _, err := l.Dial("127.0.0.1:1", StreamTimeout); !errors.Is(err, identity.ErrMalformed) {
		t.Fatalf("got %v", err)
	}
}

func TestStreamLimit(t *testing.T) { // I10
	network := newMemory()
	network.layer(id(1))
	l := newLayer(network.layer(id(0)), id(0))
	go func() {
		for {
			select {
			case conn := <-network.listen[id(1)].accept:
				defer conn.Close()
			case <-network.listen[id(1)].closed:
				return
			}
		}
	}()
	defer network.listen[id(1)].Close()
	to := raft.ServerAddress(id(1).String())
	for range MaxStreams {
		if _, err := l.Dial(to, StreamTimeout); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Dial(to, StreamTimeout); !errors.Is(err, errTooManyStreams) {
		t.Fatalf("got %v", err)
	}
	for s := range l.open {
		s.Close()
		break
	}
	if _, err := l.Dial(to, StreamTimeout); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := l.Dial(to, StreamTimeout); err == nil {
		t.Fatal("a closed layer dials")
	}
}
