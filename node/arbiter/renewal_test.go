package arbiter

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
)

// opens says whether a key pair opens the mesh's secrets as they stand now, by
// whatever wrap there is.
func (f *fixture) opens(r vault.Recipient) bool {
	f.Helper()
	found := false
	f.store.View(func(s *registry.State) {
		for _, wrapped := range s.Wraps {
			data, err := r.Unwrap(wrapped, s.Cluster.ID, s.DataKey)
			if err == nil {
				found = found || f.opensWith(data, s)
			}
		}
	})
	return found
}

// opensWith says whether a data key opens all secrets, and that they are right.
func (f *fixture) opensWith(data vault.DataKey, s *registry.State) bool {
	ca, caErr := data.Open(s.Cluster.ID, SecretCA, s.Secrets[SecretCA].Box)
	gossip, gossipErr := data.Open(s.Cluster.ID, SecretGossip, s.Secrets[SecretGossip].Box)
	return caErr == nil && gossipErr == nil && bytes.Equal(ca, f.authority.Seed()) && len(gossip) == 32
}

// dataKey is the present one, by a member's own wrap.
func (f *fixture) dataKey(id identity.NodeID) (data vault.DataKey) {
	f.Helper()
	f.store.View(func(s *registry.State) {
		var err error
		data, err = f.joined[id].wrap.Unwrap(s.Wraps[id.String()], s.Cluster.ID, s.DataKey)
		f.ok(err)
	})
	return data
}

// wantGeneration checks who can open the secrets, and under which data key.
func (q *quorum) wantGeneration(want uint64, can, cannot []identity.NodeID) {
	q.Helper()
	if got := q.store.state.DataKey; got != want {
		q.Errorf("data key %d, want %d", got, want)
	}
	for _, id := range can {
		if !q.opens(q.joined[id].wrap) {
			q.Errorf("%s cannot open the secrets", q.joined[id].name)
		}
	}
	for _, id := range cannot {
		if q.opens(q.joined[id].wrap) {
			q.Errorf("%s can still open the secrets", q.joined[id].name)
		}
	}
	recovery, err := vault.ParseRecoveryText(q.recovery.RecoveryText())
	if err != nil || !q.opens(recovery) {
		q.Errorf("the recovery key does not open the secrets: %v", err)
	}
}

// TestDataKeyRenewedWhenAVoterLeaves: what the leaver could open is not what the
// registry seals its secrets under from then on (design 4).
func TestDataKeyRenewedWhenAVoterLeaves(t *testing.T) {
	q := newQuorum(t)
	q.wantGeneration(1, []identity.NodeID{q.own, q.second.node, q.third.node}, nil)
	kept := q.dataKey(q.second.node)
	q.a.beginLeave(q.second.node)
	q.settle()
	q.after(LeaveLinger + time.Second)
	q.wantGeneration(2, []identity.NodeID{q.own, q.third.node}, []identity.NodeID{q.second.node})
	q.store.View(func(s *registry.State) {
		if q.opensWith(kept, s) {
			t.Error("the key that the leaver knows opens the new secrets")
		}
		if !s.Nodes[q.second.node].Removed {
			t.Error("it is a member still")
		}
	})
	q.settle()
	if q.store.state.DataKey != 2 {
		t.Errorf("renewed again for nothing: %d", q.store.state.DataKey)
	}
}

// TestDataKeyRenewedWhenAVoterIsReplaced: it may be in other hands.
func TestDataKeyRenewedWhenAVoterIsReplaced(t *testing.T) {
	q := newQuorum(t)
	fourth := q.member(q.a, "n4", voterToo)
	q.silence(q.second, true)
	q.after(VoterSilence + 5*time.Second)
	q.wantGeneration(2, []identity.NodeID{q.own, q.third.node, fourth.node}, []identity.NodeID{q.second.node})
	// When it is back it may be asked again, and gets the new key.
	q.connect(q.a, q.second.node)
	q.silence(fourth, true)
	q.after(VoterSilence + 5*time.Second)
	q.wantGeneration(3, []identity.NodeID{q.own, q.third.node, q.second.node}, []identity.NodeID{fourth.node})
}

// TestRenewalWithoutOutcome: the arbiter that hears nothing asks for the same
// again; whether or not the first was committed there is one next generation.
func TestRenewalWithoutOutcome(t *testing.T) {
	for name, fate := range map[string]loss{"lost": lost, "committed": deaf} {
		t.Run(name, func(t *testing.T) {
			q := newQuorum(t)
			tries := 0
			q.store.lose = func(c registry.Command) loss {
				if c.PutSecrets != nil && tries < 3 {
					tries++
					return fate
				}
				return arrives
			}
			q.a.beginLeave(q.second.node)
			q.settle()
			if tries != 3 {
				t.Fatalf("asked %d times", tries)
			}
			q.wantGeneration(2, []identity.NodeID{q.own, q.third.node}, []identity.NodeID{q.second.node})
			if q.a.data.Generation() != 2 || !q.opensWith(q.a.data, q.store.state) {
				t.Error("the arbiter goes by another data key than the registry")
			}
			// What it does next with its key fits.
			fourth := q.member(q.a, "n4", voterToo)
			q.settle()
			q.wantGeneration(2, []identity.NodeID{q.own, q.third.node, fourth.node}, nil)
		})
	}
}

// TestLeaderChangeDuringRenewal: the next arbiter finds out what became of it,
// and ends it if nothing did.
func TestLeaderChangeDuringRenewal(t *testing.T) {
	for name, fate := range map[string]loss{"lost": lost, "committed": deaf} {
		t.Run(name, func(t *testing.T) {
			q := newQuorum(t)
			q.store.lose = func(c registry.Command) loss {
				if c.PutSecrets != nil {
					return fate
				}
				return arrives
			}
			q.a.beginLeave(q.second.node)
			for len(q.logOf(q.second.node)) == 0 { // until its vote is gone
				q.turn()
			}
			q.turn() // asks for a renewal, hears nothing, and leads no more
			if q.a.renewal == nil {
				t.Fatal("no renewal is under way")
			}
			q.store.lose = nil
			q.a = q.stillOn(q.trustOf(q.third.node)) // it opens the secrets, or could not serve
			q.connect(q.a, q.own)
			q.connect(q.a, q.third.node)
			q.settle()
			q.wantGeneration(2, []identity.NodeID{q.own, q.third.node}, []identity.NodeID{q.second.node})
			if !q.opensWith(q.a.data, q.store.state) {
				t.Error("the arbiter goes by another data key than the registry")
			}
			if a, b := q.dataKey(q.own), q.dataKey(q.third.node); a.Generation() != b.Generation() {
				t.Errorf("generations %d and %d", a.Generation(), b.Generation())
			}
		})
	}
}

// TestNoRenewalWithoutRecoveryKey: a mesh of before goes on as it was.
func TestNoRenewalWithoutRecoveryKey(t *testing.T) {
	q := newQuorum(t)
	q.store.state.Cluster.Recovery = nil
	q.a.beginLeave(q.second.node)
	q.settle()
	q.after(LeaveLinger + time.Second)
	if q.store.state.DataKey != 1 || !q.a.warned || !q.store.state.Nodes[q.second.node].Removed {
		t.Errorf("data key %d, warned %v, removed %v", q.store.state.DataKey, q.a.warned, q.store.state.Nodes[q.second.node].Removed)
	}
	if _, ok := q.store.state.Wraps[q.second.node.String()]; ok {
		t.Error("its wrap stays for ever")
	}
}

// TestStandbyThatIsNotAddedYet: to hold the key ahead of the log, as arbiters before
// this one had it, is no departure.
func TestStandbyThatIsNotAddedYet(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	f.connect(a, f.trust.Key.ID())
	second := f.member(a, "n2", voterToo)
	f.store.full = errors.New("no room")
	early, err := a.wrapTo([]identity.NodeID{second.node})
	f.ok(err)
	_, err = f.store.Propose(t.Context(), early)
	f.ok(err)
	for range 2 {
		if plan := a.planElectorate(); plan == nil || plan(t.Context()) == nil {
			t.Fatal("it was added")
		}
	}
	if f.store.state.DataKey != 1 || a.renewal != nil {
		t.Errorf("data key %d is renewed", f.store.state.DataKey)
	}
	delete(a.nodes, second.node)
	if plan := a.planElectorate(); plan == nil || a.renewal == nil {
		t.Error("it is gone, and the key that it holds is not renewed")
	}
}
