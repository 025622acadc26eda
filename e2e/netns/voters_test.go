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

// shutTCP has a host's own firewall refuse its TCP port, or opens it again.
func (h *host) shutTCP(shut bool) {
	if !shut {
		h.Sh("nft delete table inet closed")
		return
	}
	h.Sh("nft 'add table inet closed; add chain inet closed input { type filter hook input priority 0; }; " +
		"add rule inet closed input tcp dport 6484 ct state new drop'")
}

// voters are the names of those that vote, and of the arbiter.
func (m *mesh) voters() (names []string, arbiter string, err error) {
	members, err := m.members()
	for _, member := range members {
		if member.Voter {
			names = append(names, member.Name)
		}
		if member.Arbiter {
			arbiter = member.Name
		}
	}
	slices.Sort(names)
	return names, arbiter, err
}

// TestVotersBehindAFirewall: hosts join whose TCP port nobody reaches. The mesh
// keeps its arbiter, gives them no vote, and says why; good hosts pass them by.
// With votes of that kind a dead arbiter would be the end of logins.
func TestVotersBehindAFirewall(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 4)
	n1, n2, n3, n4 := m.nodes[0], m.nodes[1], m.nodes[2], m.nodes[3]
	m.watch("client")
	m.found()
	for i, n := range []*host{n2, n3} {
		n.shutTCP(true)
		n.join(n1)
		m.ready(2 + i)
	}
	m.connect()
	m.Until("status names both", 40*time.Second, func() error {
		status, err := n1.status()
		text := strings.Join(status.Problems, "\n")
		for _, n := range []string{"n2", "n3"} {
			if err == nil && !strings.Contains(text, n+" does not answer n1: let TCP port 6484 in on "+n) {
				err = fmt.Errorf("status says %q", text)
			}
		}
		return err
	})
	if names, arbiter, err := m.voters(); err != nil || arbiter != "n1" || !slices.Equal(names, []string{"n1"}) {
		t.Errorf("voters %v, arbiter %q, %v", names, arbiter, err)
	}
	if peers, err := ask[control.RaftPeers](n3, "operator", "raft", "list-peers"); err != nil || !slices.ContainsFunc(peers.Peers,
		func(p control.RaftPeer) bool { return !p.Voter && p.Unfit != "" }) {
		t.Errorf("list-peers: %v %+v", err, peers)
	}
	n3.shutTCP(false)
	n4.join(n1)
	m.Until("those three vote that can be reached", 60*time.Second, func() error {
		names, _, err := m.voters()
		if err == nil && !slices.Equal(names, []string{"n1", "n3", "n4"}) {
			err = fmt.Errorf("voters %v", names)
		}
		return err
	})
	m.Until("both new voters know it", 10*time.Second, func() error {
		for _, n := range []*host{n3, n4} {
			if status, err := n.status(); err != nil || !status.Voter {
				return fmt.Errorf("%s votes: %v, %v", n.Name, status.Voter, err)
			}
		}
		return nil
	})
	time.Sleep(time.Second) // and of each other, a heartbeat later: consensus/DESIGN.md
	begin := time.Now()
	n1.process.Kill()
	m.Until("another arbiter", 20*time.Second, func() error {
		_, arbiter, err := m.voters()
		if err == nil && (arbiter == "" || arbiter == "n1") {
			err = errors.New("no arbiter")
		}
		return err
	})
	t.Logf("another arbiter answers %v after the kill", time.Since(begin).Round(time.Millisecond))
	if err := m.transfer(lab.Plan{Bytes: 5 << 20, Down: true}).Wait(within(30 * time.Second)).Check(); err != nil {
		t.Error(err)
	}
}

// TestArbiterVanishes: the arbiter's host loses its links before anything on it can
// say goodbye, as with its power. The others have another arbiter, and all of them
// are on it within seconds, not when TCP gives up; the transfer goes on.
func TestArbiterVanishes(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 4)
	n1 := m.nodes[0]
	m.watch("client")
	m.up()
	m.connect()
	n1.Sh("ip link set in down; ip link set out down")
	begin := time.Now()
	rest := m.nodes[1:]
	m.Until("another arbiter hears all that are left", 30*time.Second, func() error {
		answer, err := ask[control.Members](rest[len(rest)-1], "members")
		up := 0
		for _, member := range answer.Members {
			if member.State == "up" && member.Name != n1.Name {
				up++
			}
		}
		if err == nil && up != len(rest) {
			err = fmt.Errorf("%d of %d are up", up, len(rest))
		}
		return err
	})
	t.Logf("the others are up under another arbiter after %v", time.Since(begin).Round(time.Millisecond))
	if err := m.transfer(lab.Plan{Bytes: 5 << 20, Down: true}).Wait(within(30 * time.Second)).Check(); err != nil {
		t.Error(err)
	}
}
