//go:build e2e

package netns

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// onLAN looks at what the inside network carries, from a node's own link.
func (m *mesh) onLAN(h *host) *lab.Watch { return h.Watch("in", []byte(lab.Canary), 6486) }

// finalMile transfers both ways between the client and a node's own host, and
// fails for every packet of it that the inside network saw.
func (m *mesh) finalMile(to *host) {
	m.Helper()
	var watches []*lab.Watch
	for _, n := range m.nodes {
		watches = append(watches, m.onLAN(n))
	}
	for _, plan := range []lab.Plan{{Bytes: 20 << 20}, {Bytes: 20 << 20, Down: true}} {
		r := m.Transfer(m.client.Space, to.Space, to.inside, plan).Wait(within(60 * time.Second))
		m.t.Logf("to %s itself, down %v: %v", to.Name, plan.Down, r)
		if err := r.Check(); err != nil {
			m.t.Error(err)
		}
	}
	for i, w := range watches {
		seen, err := w.End()
		if err != nil || len(seen.Canaries) > 0 {
			m.t.Errorf("cleartext on the LAN at %s: %v, %v", m.nodes[i].Name, seen.Canaries, err)
		}
	}
}

// TestFinalMile: the destination is an agent's own host. Nothing of it is in
// clear on the inside network, in a mesh that routes and in one that
// masquerades; other destinations are reached as always.
func TestFinalMile(t *testing.T) {
	for _, kind := range []string{"routed", "masquerade"} {
		t.Run(kind, func(t *testing.T) {
			m := newMesh(t, 3)
			if kind == "masquerade" {
				m.masquerade()
			}
			m.watch("client")
			m.up()
			m.connect("--slice-mode", "burst")
			s := m.slices(2)
			for _, slice := range s.Slices {
				if slice.State == "up" {
					m.finalMile(m.node(slice.Agent))
				}
			}
			if err := m.reach(); err != nil {
				t.Error(err)
			}
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
		m.finalMile(peer)
		if m.routed() == nil {
			t.Errorf("the tunnel to %s leads to %s too", peer.Name, destination)
		}
		if !m.client.process.Terminate(10 * time.Second) {
			t.Fatal("the client does not end")
		}
	}
}
