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

// firewalldRules are what firewalld 1.3 installs when it starts with its defaults:
// the zone public takes ssh and DHCPv6 and nothing else, nothing is forwarded.
// What was connected goes on, as far as connection tracking knows of it.
const firewalldRules = `table inet firewalld {
	chain filter_INPUT {
		type filter hook input priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		jump filter_INPUT_ZONES
		reject with icmpx admin-prohibited
	}
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
		ct state { established, related } accept
		ct status dnat accept
		iifname "lo" accept
		ct state invalid drop
		jump filter_FORWARD_ZONES
		reject with icmpx admin-prohibited
	}
	chain filter_OUTPUT {
		type filter hook output priority filter + 10; policy accept;
		ct state { established, related } accept
		oifname "lo" accept
	}
	chain filter_INPUT_ZONES { goto filter_IN_public; }
	chain filter_FORWARD_ZONES { goto filter_FWD_public; }
	chain filter_IN_public {
		tcp dport 22 accept
		ip6 daddr fe80::/64 udp dport 546 accept
		meta l4proto { icmp, ipv6-icmp } accept
	}
	chain filter_FWD_public { meta l4proto { icmp, ipv6-icmp } accept; }
}
`

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
			file := m.Write(firewalldRules, "firewalld.nft")
			time.Sleep(time.Second)
			flow.forget()
			walled.Sh("nft -f %s", file)
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
