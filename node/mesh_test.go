package node

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh"
	"github.com/meshcrypt/meshcrypt/mesh/meshtest"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

func newLogger(j *journal) *slog.Logger { return slog.New(j) }

// wide is a bandwidth that takes three agents of nodeMbit.
const wide = 3 * (nodeMbit - 5) * 1_000_000

// TestMeshCarriesASlicedSession walks one session through what may happen to
// it: start, loss of an agent that is also the gateway in use, loss of the
// control connection, revocation.
func TestMeshCarriesASlicedSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	arbiter, entry := w.members[0], w.members[3]
	v := w.connect("alice", wide, entry, w.members[2], w.members[1], arbiter)

	w.until("three slices are up", func() bool { return v.settled() && len(v.session().Slices) >= 3 })
	before := v.session()
	if agents := agentsOf(before); len(agents) != len(before.Slices) {
		t.Fatalf("%d slices on %d agents", len(before.Slices), len(agents))
	}
	w.until("every agent's path is proven", func() bool { return w.journal.count("plaintext path tested") >= len(w.members) })
	if used := v.exchange(48); used < 2 {
		t.Fatalf("48 flows came out at %d nodes", used)
	}

	entry.stop() // gateway in use and an agent at once
	w.until("the client changes its gateway, by itself or told by a quicker arbiter", func() bool {
		return v.journal.count("gateway is silent")+v.journal.count("gateway changed") > 0
	})
	w.until("the control connection is back", func() bool { return v.journal.count("session resumed") > 0 })
	w.until("the dead agent's slices are elsewhere", func() bool { return v.settled(entry) })
	v.exchange(24)
	after := v.session()
	if after.ID != before.ID || after.Leases[0] != before.Leases[0] {
		t.Fatalf("another session or lease: %v %v, was %v %v", after.ID, after.Leases, before.ID, before.Leases)
	}

	w.propose(registry.Command{RevokeClient: &registry.RevokeClient{Name: "alice"}})
	if err := v.end(); !errors.Is(err, client.ErrEnded) {
		t.Fatalf("a revoked client ended with %v", err)
	}
}

// TestGoodbyeEndsTheSession: whoever stops cleanly leaves nothing behind.
func TestGoodbyeEndsTheSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	for _, name := range []string{"ann", "ben", "cem", "dan", "eva", "fay", "gil", "hal"} {
		v := w.connect(name, wide, w.members[0])
		v.cancel()
		if err := v.end(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s := v.session(); s.State == registry.SessionActive {
			t.Errorf("%s: the session goes on", name)
		}
	}
}

func agentsOf(s registry.Session) map[string]bool {
	agents := make(map[string]bool)
	for _, sl := range s.Slices {
		agents[sl.Agent.String()] = true
	}
	return agents
}

// end waits for the client's own end.
func (v *visitor) end() error {
	v.Helper()
	select {
	case err := <-v.ended:
		return err
	case <-time.After(hangLimit):
		v.Fatalf("client %s goes on; log: %v", v.name, v.journal.all())
		return nil
	}
}

// TestSessionOutlivesItsControl breaks the control connection, then the
// arbiter: packets do not notice; what is headless for too long stops by
// itself, at the agents and at the client (I12).
func TestSessionOutlivesItsControl(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	v := w.connect("bob", wide, w.members[2], w.members[1], w.members[0])
	w.until("three slices are up", func() bool { return v.settled() && len(v.session().Slices) >= 3 })
	before := v.session()

	if err := w.members[2].port.Close(); err != nil { // ends the relayed connection, not the packets
		t.Fatal(err)
	}
	w.until("the session is resumed", func() bool { return v.journal.count("session resumed") == 1 })
	v.exchange(12)
	for i, sl := range v.session().Slices {
		if sl.Epoch != before.Slices[i].Epoch || sl.Agent != before.Slices[i].Agent {
			t.Errorf("slice %d was granted anew by a mere resumption: %+v", i, sl)
		}
	}

	w.stopServing(w.members[0])
	v.exchange(12)
	const headless = registry.HeadlessAlone * time.Second // one node votes
	for _, m := range w.members {
		m.ahead.Store(int64(headless + time.Second))
	}
	w.until("agents end what is headless for too long", func() bool { return w.journal.count("slice freed") >= len(before.Slices) })
	slept := v.journal.count("this process stood still") // a jump is taken for sleep, which is forgiven once
	v.ahead.Store(int64(headless + time.Second))
	w.until("the client woke up", func() bool { return v.journal.count("this process stood still") > slept })
	v.ahead.Store(2 * int64(headless+time.Second))
	if err := v.end(); !errors.Is(err, client.ErrHeadless) {
		t.Fatalf("a headless client ended with %v", err)
	}
}

// TestClientWakesUp: a laptop that slept for longer than its keys live comes
// back by itself, by resumption, and uses none of them again (design 9).
func TestClientWakesUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	v := w.connect("erin", wide, w.members[1], w.members[2])
	w.until("three slices are up", func() bool { return v.settled() && len(v.session().Slices) >= 3 })
	before := v.session()
	v.ahead.Store(int64(dataplane.KeyLife + time.Minute))
	w.until("the session is resumed with new keys", func() bool {
		now := v.session()
		for i, sl := range now.Slices {
			if i < len(before.Slices) && sl.Epoch <= before.Slices[i].Epoch {
				return false
			}
		}
		return now.ID == before.ID && v.settled() && v.journal.count("session resumed") >= 1
	})
	v.exchange(12)
}

// stopServing takes the arbiter away and leaves the node's packet path.
func (w *world) stopServing(m *member) {
	w.Helper()
	if err := m.port.Close(); err != nil {
		w.Fatal(err)
	}
	m.closeStore()
	w.until("no arbiter is heard", func() bool {
		for _, other := range w.members {
			if r, ok := other.agent.Report(w.Context()); !ok || r.Heard {
				return false
			}
		}
		return true
	})
}

// TestEgressHasASecond kills the egress: its second answers for the lease,
// and replies find the client again.
func TestEgressHasASecond(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 4)
	w.until("a part whose egress is not the arbiter, with a second", func() bool {
		var p registry.Part
		w.registry(func(s *registry.State) { p = s.Parts[0] })
		return p.Egress != w.members[0].trust.Key.ID() && !p.Second.IsZero()
	})
	v := w.connect("carol", wide, w.members[0])
	w.until("three slices are up", func() bool { return v.settled() && len(v.session().Slices) >= 3 })
	v.exchange(12)
	before := v.session()
	egress := w.byID(before.Egress)
	egress.stop()
	v.exchange(24)
	if after := v.session(); after.Egress != before.Second {
		t.Fatalf("egress is %s, not the second %s", after.Egress.Short(), before.Second.Short())
	}
	if w.journal.count("egress is silent; taking over") != 1 {
		t.Error("the second did not take over by itself")
	}
}

// TestGossipAloneChangesNothing lets a liar that holds the gossip key speak
// for a member and for a stranger: nothing is granted, removed or moved (I9).
func TestGossipAloneChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	v := w.connect("dave", wide, w.members[0])
	w.until("both slices are up", func() bool { return v.settled() && len(v.session().Slices) == 2 })
	before := w.truth()
	network := meshtest.NewNetwork()
	honest := w.gossip(network, 0, w.members[0].trust.Key.ID())
	member, stranger := w.members[1].trust.Key.ID(), identity.NodeID{1, 2, 3}
	for i, name := range []identity.NodeID{stranger, member} {
		liar := w.gossip(network, i+1, name)
		liar.SetHint(mesh.Hint{Index: 1, Boot: identity.BootID{9}, Load: 1, Capacity: 1 << 30})
		w.ok(liar.Join(t.Context(), []netip.AddrPort{honest.Addr()}))
		heard := func() bool {
			return slices.ContainsFunc(honest.Hints(), func(m mesh.Member) bool {
				return m.Node == member && m.Hint.Capacity == 1<<30
			})
		}
		if name == member {
			w.until("the lie was heard", heard)
		}
		w.ok(liar.Leave())
	}
	v.exchange(8)
	if after := w.truth(); after != before {
		t.Errorf("I9: the registry changed by gossip:\n%s\n%s", before, after)
	}
}

// gossip opens one voice that holds the mesh's gossip key; the first is a
// member's, which it sets.
func (w *world) gossip(network *meshtest.Network, n int, name identity.NodeID) *mesh.Mesh {
	w.Helper()
	m := w.members[0]
	g, err := mesh.Open(mesh.Config{
		Name: name, Cluster: m.self.Cluster, Key: m.Node.members.key, Log: w.log(),
		Known:     func(id identity.NodeID) bool { return n > 0 || m.Node.members.find(id).Index != 0 },
		Transport: network.Host(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 9, 0, byte(n + 1)}), 7946)),
	})
	w.ok(err)
	w.Cleanup(func() { _ = g.Close() })
	if n == 0 {
		m.Node.gossip = g
	}
	return g
}

// truth is the registry but for what time and log positions change.
func (w *world) truth() string {
	w.Helper()
	truth := make(map[string]json.RawMessage)
	w.registry(func(s *registry.State) {
		raw, err := json.Marshal(s)
		w.ok(errors.Join(err, json.Unmarshal(raw, &truth)))
	})
	for _, passing := range []string{"tick", "index", "term", "applied"} {
		delete(truth, passing)
	}
	raw, err := json.Marshal(truth)
	w.ok(err)
	return string(raw)
}
