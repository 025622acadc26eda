package node

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// threeVoters is a mesh of three nodes that all vote.
func threeVoters(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 1)
	for range 2 {
		w.join("voter", "gateway", "agent")
	}
	w.until("all three vote, and are counted", func() bool {
		voters := 0
		w.registry(func(s *registry.State) { voters = s.Voters })
		return voters == 3 && len(votersBeside(w.members[0].store.Load(), w.members[0].trust.Key.ID())) == 2
	})
	return w
}

// leads waits until a member is the arbiter.
func (w *world) leads(m *member) {
	w.Helper()
	w.until(m.self.Name+" is the arbiter", func() bool { return m.arbiter.Load() != nil })
}

// heard is the loads that an arbiter knows; none while the member is not the arbiter.
func (w *world) heard(m *member) map[identity.NodeID]float64 {
	w.Helper()
	a := m.arbiter.Load()
	if a == nil {
		return nil
	}
	report, err := a.Report(w.Context())
	if err != nil {
		return nil // its term ended
	}
	return report.Load
}

// operate asks a member as its operator does.
func (w *world) operate(m *member, op, name string) error {
	w.Helper()
	body, err := json.Marshal(control.NameRequest{Name: name})
	w.ok(err)
	_, err = m.operations()[op].Do(httptest.NewRequestWithContext(w.Context(), "POST", "/", nil), control.CallerLocal, body)
	return err
}

func (w *world) refused(m *member, op, name string, code int) {
	w.Helper()
	var e *control.Error
	if err := w.operate(m, op, name); !errors.As(err, &e) || e.Code != code || e.Next == "" {
		w.Errorf("%s %s: %v, want code %d and what to do next", op, name, err, code)
	}
}

// TestLeadAndVoteByName: the lead goes to the voter that is named; one that died
// loses its vote at an operator's word, and can open nothing any more; what
// would end the quorum is refused.
func TestLeadAndVoteByName(t *testing.T) {
	t.Parallel()
	w := threeVoters(t)
	first, second, third := w.members[0], w.members[1], w.members[2]
	w.refused(first, control.OpRaftTransfer, "n9", control.CodeFailed)
	w.ok(w.operate(first, control.OpRaftTransfer, "n1")) // it leads already
	w.ok(w.operate(first, control.OpRaftTransfer, "n3"))
	w.leads(third)
	w.until("the others are heard", func() bool {
		return len(w.heard(third)) == 3
	})
	w.refused(third, control.OpRaftRemove, "n9", control.CodeFailed)
	w.refused(third, control.OpRaftRemove, "n3", control.CodeDenied) // it is the arbiter

	second.stop()
	w.until("the second is missed", func() bool {
		loads := w.heard(third)
		_, heard := loads[second.trust.Key.ID()]
		return len(loads) > 0 && !heard
	})
	w.refused(third, control.OpRaftTransfer, "n2", control.CodeDegraded) // silent
	w.refused(third, control.OpRaftRemove, "n1", control.CodeDenied)     // no quorum without it
	w.ok(w.operate(third, control.OpRaftRemove, "n2"))
	var state *registry.State
	w.until("the data key is renewed, and the one voter left is counted", func() bool {
		w.ok(third.view(func(s *registry.State) { state = s.Clone() }))
		return state.DataKey == 2 && state.Voters == 1
	})
	if got := state.Headless(); got != registry.HeadlessAlone {
		t.Errorf("headless %d s with one voter", got)
	}
	w.refused(third, control.OpRaftTransfer, "", control.CodeDenied)
	w.refused(third, control.OpRaftRemove, "n3", control.CodeDenied)
	recovery, err := vault.ParseRecoveryText(w.founded.Recovery)
	w.ok(err)
	for _, c := range []struct {
		name string
		who  vault.Recipient
		want bool
	}{
		{"n1", first.trust.Wrap, true}, {"n2", second.trust.Wrap, false}, {"n3", third.trust.Wrap, true},
		{"the recovery key", recovery, true},
	} {
		if got := canOpen(state, c.who); got != c.want {
			t.Errorf("%s can open the secrets: %v", c.name, got)
		}
	}
}

// canOpen says whether any wrap of the data key is for a key pair.
func canOpen(s *registry.State, who vault.Recipient) bool {
	for _, wrapped := range s.Wraps {
		data, err := who.Unwrap(wrapped, s.Cluster.ID, s.DataKey)
		if err == nil {
			_, err = data.Open(s.Cluster.ID, arbiter.SecretCA, s.Secrets[arbiter.SecretCA].Box)
		}
		if err == nil {
			return true
		}
	}
	return false
}
