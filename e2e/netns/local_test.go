//go:build e2e

package netns

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// onLAN looks at what the inside network carries, from a node's own link.
func (m *mesh) onLAN(h *host) *lab.Watch { return h.Watch("in", []byte(lab.Canary), 6486) }

// finalMile transfers both ways between the client and a node's own host, and wants the
// inside network to see no packet of it. A failure tells all that was seen.
func (m *mesh) finalMile(choose func() *host) {
	m.Helper()
	if err := lab.Again(m.t, func() error { return m.finalMileOnce(choose()) }); err != nil {
		m.t.Error(err)
	}
}

func (m *mesh) finalMileOnce(to *host) error {
	m.Helper()
	cost := m.quiet()
	before, err := m.slicesOn(to)
	if err != nil {
		return err
	}
	var watches []*lab.Watch
	for _, n := range m.nodes {
		watches = append(watches, m.onLAN(n))
	}
	broken, clear := errors.Join(m.toAndFro(to, false), m.toAndFro(to, true)), error(nil)
	for i, w := range watches {
		seen, err := w.End()
		if err != nil || len(seen.Canaries) > 0 {
			clear = errors.Join(clear, fmt.Errorf("cleartext on the LAN at %s: %v, %v", m.nodes[i].Name, seen.Canaries, err))
		}
	}
	after, asked := m.slicesOn(to)
	what := fmt.Sprintf("to %s itself: %v; its slices: %q, then %q, %v", to.Name, errors.Join(broken, clear), before, after, asked)
	switch beside := cost.Stall(); {
	case broken == nil && clear == nil:
		return nil
	case before != after:
		// An agent that stands still for 300 ms loses its slice, and without one its host
		// is reached as everything is: in clear, through another agent.
		return lab.Late{What: what, Beside: max(beside, lab.SpoiledFrom)}
	case clear == nil:
		return lab.Late{What: what, Beside: beside} // to connect and to end has limits of time
	default:
		return fmt.Errorf("%s; the flow beside stood for %v", what, beside)
	}
}

// toAndFro is one transfer, from a node's own host or to it.
func (m *mesh) toAndFro(to *host, down bool) error {
	begin := time.Now()
	t, err := m.TryTransfer(m.client.Space, to.Space, to.inside, lab.Plan{Bytes: 20 << 20, Down: down})
	if err != nil {
		return fmt.Errorf("down %v, after %v: %w", down, time.Since(begin).Round(time.Millisecond), err)
	}
	r := t.Wait(within(60 * time.Second))
	m.t.Logf("to %s itself, down %v: %v", to.Name, down, r)
	if err := r.Check(); err != nil {
		return fmt.Errorf("down %v: %v: %w", down, r, err)
	}
	return nil
}

// slicesOn is the session's slices that are on a node, in words: a slice that moves
// meanwhile, or is granted anew, makes another text.
func (m *mesh) slicesOn(n *host) (text string, err error) {
	s, err := m.session()
	for _, slice := range s.Slices {
		if slice.Agent == n.Name {
			text += fmt.Sprintf("[%d.%d %s] ", slice.Number, slice.Epoch, slice.State)
		}
	}
	return strings.TrimSpace(text), err
}

// TestFinalMile: the destination is an agent's own host. Nothing of it is in
// clear on the inside network, in a mesh that routes and in one that
// masquerades; other destinations are reached as always.
func TestFinalMile(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"routed", "masquerade"} {
		t.Run(kind, func(t *testing.T) {
			m := newMesh(t, 3)
			if kind == "masquerade" {
				m.masquerade()
			}
			m.watch("client")
			m.up()
			m.connect("--slice-mode", "burst")
			for i := range 2 {
				m.finalMile(func() *host {
					up := slices.DeleteFunc(m.slices(2).Slices, func(s control.Slice) bool { return s.State != "up" })
					return m.node(up[i].Agent)
				})
			}
			m.Until("the destination is reached too", 10*time.Second, m.reach)
		})
	}
}

// TestPeer: a client names the node that it wants to reach. All of its tunnel
// ends there and leads nowhere else; a node that is not there, or that it may
// not reach, is refused.
func TestPeer(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 3)
	m.watch("client")
	m.up()
	m.admit()
	connect := func(peer string, more ...string) []string {
		return append([]string{"connect", "--run-dir", m.File("client", "run"), "--profile", m.profile, "--user", user,
			"--password-file", m.passwordFile(), "--peer", peer}, more...)
	}
	if r := m.client.try(connect("n9")...); r.Code != control.CodeDenied || !strings.Contains(r.Stderr, "n9") {
		t.Errorf("a peer that is not there: exit %d, %s", r.Code, r.Stderr)
	}
	for _, peer := range m.nodes {
		m.client.start(connect(peer.Name)...)
		m.Until("a connection to "+peer.Name, 20*time.Second, func() error {
			if r := m.client.Try(nil, "ip", "route", "get", peer.inside); !strings.Contains(r.Out, "dev mesh0") {
				return notYet(r)
			}
			return m.Reach(m.client.Space, peer.Space, peer.inside)
		})
		s, err := m.session()
		if err != nil || !slices.ContainsFunc(s.Slices, func(s control.Slice) bool { return s.Agent == peer.Name }) || len(s.Slices) != 1 {
			t.Errorf("slices %+v, %v, want one on %s", s.Slices, err, peer.Name)
		}
		m.finalMile(func() *host { return peer })
		if m.routed() == nil {
			t.Errorf("the tunnel to %s leads to %s too", peer.Name, destination)
		}
		if !m.client.process.Terminate(10 * time.Second) {
			t.Fatal("the client does not end")
		}
	}
}
