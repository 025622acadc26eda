//go:build e2e

package netns

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestCopiedNode: a node's data directory is copied to another host, as by a backup
// that is tried out, and started there while the first host lives. The first carries
// nothing any more and says why, members names it, and the client's session goes on
// whole. When the copy is gone and the first is started again, all is as before.
func TestCopiedNode(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2)
	m.watch("client")
	m.found()
	n := m.nodes[1]
	// It listens everywhere, so the copy can too: a host has no address of another.
	n.start("join", m.nodes[0].at(ipv4), "--token-file", m.tokenFile(), "--name", n.Name,
		"--inside-if", "in", "--inside", n.inside, "--advertise", n.outer)
	m.ready(2)
	m.connectBusy("--slice-mode", "burst")
	before := m.slices(2)
	up, down := m.transfer(lab.Plan{Pace: 20}), m.transfer(lab.Plan{Pace: 20, Down: true})

	other := m.copied(n)
	other.start("run")
	m.Until("the first host says that it is the older one", 20*time.Second, func() error {
		s, err := n.status()
		if said := strings.Join(s.Problems, "; "); err == nil && (s.Health != "degraded" ||
			!strings.Contains(said, "another host runs with its key") || !strings.Contains(said, "meshcrypt leave")) {
			err = fmt.Errorf("%s: %s", s.Health, said)
		}
		return err
	})
	m.isSoon(n, "two-hosts")
	m.wholeSession(before, up, down)

	other.process.Kill()
	if !n.process.Terminate(10 * time.Second) {
		t.Errorf("%s does not end: %s", n.Name, n.process.Tail(5))
	}
	n.start("run")
	m.slices(2)
	m.wholeSession(before, up, down)
	for _, way := range []*lab.Transfer{up, down} {
		if err := way.Finish(within(20 * time.Second)).Check(); err != nil {
			t.Error(err)
		}
	}
}

// copied is another host with the node's data directory, in a network where the
// outer addresses differ and the inside ones are the same.
func (m *mesh) copied(n *host) *host {
	m.Helper()
	c := &host{Space: m.Space("copy"), mesh: m, dir: m.File("copy", "data"), families: n.families, outer: "192.0.2.9", inside: n.inside}
	m.Wire(c.Space, "out", m.wan, c.Name)
	m.wan.Sh("ip link set %s master sw0", c.Name)
	address(c.Space, "out", ipv4, c.outer, "")
	defaultRoute(c.Space, ipv4, "192.0.2.254", "")
	c.Sh("ip link add in type veth peer name beyond; ip link set in up; ip link set beyond up")
	address(c.Space, "in", ipv4, c.inside, "")
	c.Sh("cp -a %s %s; rm -f %s/*.sock", n.dir, c.dir, c.dir)
	return c
}

// isSoon waits until members says so of a node.
func (m *mesh) isSoon(n *host, state string) {
	m.Helper()
	m.Until(n.Name+" is "+state, 20*time.Second, func() error {
		all, err := m.members()
		for _, member := range all {
			if member.Name == n.Name && member.State != state {
				err = fmt.Errorf("it is %s", member.State)
			}
		}
		return err
	})
}

// wholeSession: the client has the session that it had, and both ways carry.
func (m *mesh) wholeSession(before control.Session, ways ...*lab.Transfer) {
	m.Helper()
	if now := m.slices(1); now.ID != before.ID {
		m.t.Errorf("the session was %s and is %s", before.ID, now.ID)
	}
	for _, way := range ways {
		got := way.Received()
		m.Until("another MB", 20*time.Second, func() error {
			if now := way.Received() - got; now < 1<<20 {
				return fmt.Errorf("%d bytes, running %v", now, way.Running())
			}
			return nil
		})
	}
}
