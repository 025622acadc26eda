//go:build e2e

package netns

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// envFirewalld names a tree in which firewalld and what it needs are unpacked, not
// installed: installed, it would be started on this machine too. Without it, what it
// installs is loaded by nft. To make one:
//
//	apt-get download firewalld python3-firewall python3-nftables python3-jsonschema \
//	  python3-attr python3-pyrsistent python3-dbus python3-gi gir1.2-glib-2.0 \
//	  gir1.2-nm-1.0 libgirepository-1.0-1 libnm0 dbus-daemon
//	for package in *.deb; do dpkg-deb -x $package TREE; done
const envFirewalld = "MESHCRYPT_E2E_FIREWALLD"

// firewalld begins on a host, and has its rules in place.
func (m *mesh) firewalld(h *host) {
	m.Helper()
	if tree := os.Getenv(envFirewalld); tree != "" {
		begin := time.Now()
		h.Firewalld(tree)
		m.Logf("the firewalld of %s had its rules in place after %v", tree, time.Since(begin).Round(time.Millisecond))
		return
	}
	rules, err := os.ReadFile("testdata/firewalld.nft")
	if err != nil {
		m.Fatalf("%v", err)
	}
	h.Sh("nft -f %s", m.Write(string(rules), "firewalld.nft"))
}

// TestFirewalldOnOneNode: a firewall that begins to eat what nodes say to each
// other, on the egress or on its second. One of them holds the inside address,
// the one that hears, and both say whose firewall it is.
func TestFirewalldOnOneNode(t *testing.T) {
	roles := []string{"egress", "second"}
	if os.Getenv(envMatrix) != "all" {
		roles = roles[:1]
	}
	for _, role := range roles {
		t.Run(role, func(t *testing.T) {
			m := newMesh(t, 2)
			m.up()
			m.connectBusy("--slice-mode", "burst")
			egress := m.egress()
			second := m.nodes[0]
			if second == egress {
				second = m.nodes[1]
			}
			walled, well := egress, second
			if role == "second" {
				walled, well = second, egress
			}
			flow := m.echoes(m.client.Space, destination)
			time.Sleep(time.Second)
			flow.forget()
			m.firewalld(walled)
			both := m.bothHold(10 * time.Second)
			seen := flow.end()
			t.Logf("firewalld on %s, the %s: %v; two holders for %v", walled.Name, role, seen, both)
			if both > time.Second {
				t.Errorf("two hosts answered for one address for %v", both)
			}
			if seen.longest > egressOutage {
				t.Errorf("%v", seen)
			}
			if holders := m.holders(); len(holders) != 1 || holders[0] != well.Name {
				t.Errorf("the inside address is on %v, want %s", holders, well.Name)
			}
			named(t, walled, "on UDP port 6486")
			named(t, well, "look for a firewall on "+walled.Name)
		})
	}
}

// named holds that a host's status is degraded and says something.
func named(t *testing.T, h *host, want string) {
	t.Helper()
	r := h.try("status")
	said := strings.Join(problemsOf(h), "; ")
	t.Logf("%s says: %s", h.Name, said)
	if r.Code != control.CodeDegraded || !strings.Contains(said, want) {
		t.Errorf("%s: exit %d, and %q is not in: %s", h.Name, r.Code, want, said)
	}
}

// holders are the hosts that have the first part's inside address.
func (m *mesh) holders() (names []string) {
	m.Helper()
	for _, n := range m.nodes {
		if out := n.Sh("ip -o address show dev mesh0"); strings.Contains(out, fmt.Sprintf(" 10.20.0.%d/32", 201)) {
			names = append(names, n.Name)
		}
	}
	return names
}

// bothHold watches for a while; it gives the longest time with two holders.
func (m *mesh) bothHold(d time.Duration) (longest time.Duration) {
	m.Helper()
	var since time.Time
	for begin := time.Now(); time.Since(begin) < d; time.Sleep(50 * time.Millisecond) {
		switch now := time.Now(); {
		case len(m.holders()) < 2:
			since = time.Time{}
		case since.IsZero():
			since = now
		default:
			longest = max(longest, now.Sub(since))
		}
	}
	return longest
}
