//go:build e2e

package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestDisksOfVoters: what was committed outlives a voter whose disk is put back to an older
// image, and one that comes back without its log.
func TestDisksOfVoters(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 4)
	m.watch("client")
	m.up()
	m.connect() // a session that none of this may end
	m.putBack()
	m.withoutLog()
	if err := m.reach(); err != nil {
		t.Error(err)
	}
}

// putBack: a user is revoked while one of three voters is down. Then one that took the
// revocation is put back to its disk from before it, and the third is down: the two that
// are left never heard of it. They elect nobody and say why, for the node without a vote
// was told; with the third, all have the revocation.
func (m *mesh) putBack() {
	m.Helper()
	holder, old, down, witness := m.nodes[0], m.nodes[1], m.nodes[2], m.nodes[3]
	holder.must("client", "add", "bob", "--password-file", m.passwordFile())
	down.process.Kill()
	old.process.Kill()
	image := m.File("image")
	if err := errors.Join(os.Remove(filepath.Join(old.dir, "meshcrypt.sock")), os.CopyFS(image, os.DirFS(old.dir))); err != nil {
		m.t.Fatal(err)
	}
	old.start("run")
	m.Until("two voters have an arbiter", 20*time.Second, func() error { return m.revokes("bob") })
	told := witness.told()
	m.Until("the node without a vote was told of more", 20*time.Second, func() error {
		if now := witness.told(); now == told {
			return fmt.Errorf("it was told of entry %d", now)
		}
		return nil
	})
	holder.process.Kill()
	old.process.Kill()
	if err := errors.Join(os.RemoveAll(old.dir), os.CopyFS(old.dir, os.DirFS(image))); err != nil {
		m.t.Fatal(err)
	}
	old.start("run")
	down.start("run")
	for _, n := range []*host{old, down} {
		n.says(20*time.Second, "lacks changes that others know of", "start the voters that are down")
	}
	time.Sleep(3 * time.Second) // several elections
	for _, n := range []*host{old, down, witness} {
		if status, err := n.status(); err != nil || status.Arbiter != "" {
			m.t.Errorf("%s obeys %q (%v)", n.Name, status.Arbiter, err)
		}
	}
	holder.start("run")
	m.Until("all is well with the third", 60*time.Second, m.well)
	for _, n := range []*host{holder, old, down} {
		if state, err := n.stateOf("bob"); state != "revoked" {
			m.t.Errorf("by the registry of %s bob is %s (%v)", n.Name, state, err)
		}
	}
	m.Until("all is well", 60*time.Second, m.well)
}

// revokes has a user revoked at whoever leads.
func (m *mesh) revokes(user string) error {
	r := m.nodes[0].try("client", "revoke", user)
	if r.Code != 0 {
		return fmt.Errorf("%s%s", r.Out, r.Stderr)
	}
	return nil
}

// told is how far the log is, by what a host keeps of an arbiter's word.
func (h *host) told() uint64 {
	h.mesh.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "known.json"))
	var known struct{ Index uint64 }
	if err == nil {
		err = json.Unmarshal(text, &known)
	}
	if err != nil {
		h.mesh.Fatalf("%v", err)
	}
	return known.Index
}

// stateOf is a user's by a voter's own registry: it is made the arbiter, who is asked.
func (h *host) stateOf(user string) (string, error) {
	h.mesh.Helper()
	h.mesh.Until(h.Name+" leads", 30*time.Second, func() error {
		_, arbiter, err := h.mesh.voters()
		if err == nil && arbiter != h.Name {
			r := h.try("operator", "raft", "transfer-leader", h.Name)
			err = fmt.Errorf("%q does: %s%s", arbiter, r.Out, r.Stderr)
		}
		return err
	})
	clients, err := ask[control.Clients](h, "client", "list")
	for _, row := range clients.Clients {
		if row.Name == user {
			return row.State, nil
		}
	}
	return "unknown", err
}

// withoutLog: the voter is filled and votes again by itself, after which another voter can
// be done without.
func (m *mesh) withoutLog() {
	m.Helper()
	victim, other := m.nodes[2], m.nodes[0]
	victim.process.Kill()
	if err := os.RemoveAll(filepath.Join(victim.dir, "raft")); err != nil {
		m.t.Fatal(err)
	}
	victim.start("run")
	m.Until("it says so, and votes anew", 60*time.Second, func() error {
		log, err := os.ReadFile(victim.process.Log)
		if err == nil && !strings.Contains(string(log), "the log of this voter is gone") {
			err = errors.New("it does not say that its log is gone")
		}
		return errors.Join(err, m.votes(victim), m.well())
	})
	if state, err := victim.stateOf("bob"); state != "revoked" {
		m.t.Errorf("by its registry bob is %s (%v)", state, err)
	}
	other.process.Kill()
	m.Until("the two others have an arbiter", 20*time.Second, func() error {
		status, err := victim.status()
		if err == nil && (status.Arbiter == "" || status.Arbiter == other.Name) {
			err = fmt.Errorf("arbiter %q", status.Arbiter)
		}
		return err
	})
	other.start("run")
	m.Until("all is well", 60*time.Second, m.well)
}

// votes is nil when a host has a vote.
func (m *mesh) votes(h *host) error {
	names, _, err := m.voters()
	for _, name := range names {
		if name == h.Name {
			return nil
		}
	}
	return errors.Join(err, fmt.Errorf("%s has no vote, %q have", h.Name, names))
}
