//go:build e2e

package netns

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// stacks are firewalls, settings and routes that real hosts have, and how to be
// rid of them again.
var stacks = []struct {
	name, setup, undo string
	node              bool // in the way on a node, until its own advice is followed
}{
	{name: "ct state invalid drop",
		setup: `nft 'add table ip hostfw; add chain ip hostfw f { type filter hook forward priority 0; }; add rule ip hostfw f ct state invalid drop
			add chain ip hostfw i { type filter hook input priority 0; }; add rule ip hostfw i ct state invalid drop'`,
		undo: "nft delete table ip hostfw"},
	{name: "FORWARD policy drop", node: true,
		setup: `nft 'add table ip hostfw; add chain ip hostfw f { type filter hook forward priority 0; policy drop; }'`,
		undo:  "nft delete table ip hostfw"},
	{name: "rp_filter 1",
		setup: "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1 net.ipv4.conf.out.rp_filter=1",
		undo:  "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.out.rp_filter=0"},
	{name: "rp_filter 1 everywhere", // what a node needs of it is put back within half a second
		setup: "sysctl -qw net.ipv4.conf.all.rp_filter=1; for d in /proc/sys/net/ipv4/conf/*; do echo 1 >$d/rp_filter; done",
		undo:  "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.out.rp_filter=0"},
	{name: "another VPN's default route",
		setup: `ip link add vpn0 type veth peer name vpn1; ip link set vpn0 up; ip link set vpn1 up; ip address add 10.200.0.1/32 dev vpn0
			ip route add default dev vpn0 table 51820
			ip rule add not fwmark 51820 lookup 51820 pref 32700; ip rule add lookup main suppress_prefixlength 0 pref 32600
			ip route add 192.0.2.0/24 via 198.51.100.1 2>/dev/null || ip route add 198.51.100.0/24 via 192.0.2.254`,
		undo: "ip link del vpn0; ip rule del pref 32700; ip rule del pref 32600; ip route del 192.0.2.0/24 via 198.51.100.1 2>/dev/null || ip route del 198.51.100.0/24 via 192.0.2.254"},
	{name: "another VPN's 10.0.0.0/8", node: true,
		setup: `ip link add vpn0 type veth peer name vpn1; ip link set vpn0 up; ip link set vpn1 up; ip route add 10.0.0.0/8 dev vpn0 table 52; ip rule add lookup 52 pref 17000`,
		undo:  "ip link del vpn0; ip rule del pref 17000; ip rule del pref 50 2>/dev/null || true; ip rule del pref 50 2>/dev/null || true"},
}

// TestHostStacks: on an agent, on the egress and on the client each of these
// works, or the node's status exits 6 and names it, and works once what it says
// was done.
func TestHostStacks(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 3)
	m.up()
	m.connect("--slice-mode", "burst")
	s := m.slices(2)
	var agent *host
	for _, slice := range s.Slices {
		if slice.Agent != s.Egress && slice.State == "up" {
			agent = m.node(slice.Agent)
		}
	}
	if agent == nil {
		t.Fatalf("no agent but the egress: %+v", s)
	}
	for _, stack := range stacks {
		for role, h := range map[string]*host{"agent": agent, "egress": m.node(s.Egress), "client": m.client} {
			h.Sh("%s", stack.setup)
			if stack.node && h != m.client {
				t.Logf("%s on the %s: %s", stack.name, role, strings.Join(m.obey(h), "; "))
			}
			for _, plan := range []lab.Plan{{Bytes: 10 << 20}, {Bytes: 10 << 20, Down: true}} {
				r := m.transfer(plan).Wait(within(30 * time.Second))
				t.Logf("%s on the %s, down %v: %v", stack.name, role, plan.Down, r)
				if err := r.Check(); err != nil {
					t.Errorf("%s on the %s, down %v: %v", stack.name, role, plan.Down, err)
				}
			}
			h.Sh("%s", stack.undo)
		}
	}
}

var advice = regexp.MustCompile("run `([^`]+)`")

// obey waits until a host's status names what is in the way, and does what it
// says.
func (m *mesh) obey(h *host) (commands []string) {
	m.Helper()
	m.Until(h.Name+" names what is in the way", 10*time.Second, func() error {
		r := h.try("status")
		for _, found := range advice.FindAllStringSubmatch(r.Out, -1) {
			commands = append(commands, found[1])
		}
		if r.Code != control.CodeDegraded || len(commands) == 0 {
			return fmt.Errorf("exit %d: %s%s", r.Code, r.Out, r.Stderr)
		}
		return nil
	})
	for _, command := range commands {
		h.Sh("%s", command)
	}
	m.Until(h.Name+" is well", 10*time.Second, func() error {
		if r := h.try("status"); r.Code != 0 {
			return fmt.Errorf("exit %d: %s%s", r.Code, r.Out, r.Stderr)
		}
		return nil
	})
	return commands
}

// policyDrop is the firewall of a host that forwards for nobody.
const policyDrop = `nft 'add table ip hostfw; add chain ip hostfw forward { type filter hook forward priority 0; policy drop; }'`

// TestAgentThatMayNotForward: the firewall of one agent's host eats what it
// would forward. Its own status says so, and its slice of the client's packets
// reaches the destination through the egress.
func TestAgentThatMayNotForward(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 3)
	m.up()
	m.connect("--slice-mode", "burst")
	s := m.slices(2)
	var eats *host
	for _, slice := range s.Slices {
		if slice.Agent != s.Egress && slice.State == "up" {
			eats = m.node(slice.Agent)
		}
	}
	if eats == nil {
		t.Fatalf("no agent but the egress: %+v", s)
	}
	eats.Sh(policyDrop)
	m.Until(eats.Name+" finds that it does not forward", 20*time.Second, func() error {
		return degraded(eats, "does not forward")
	})
	for _, plan := range []lab.Plan{{Bytes: 50 << 20}, {Bytes: 50 << 20, Down: true}} {
		r := m.transfer(plan).Wait(within(60 * time.Second))
		t.Logf("down %v: %v", plan.Down, r)
		if err := r.Check(); err != nil {
			t.Error(err)
		}
	}
	status, err := eats.status()
	if err != nil || status.Delivered["inside"] == 0 {
		t.Errorf("%s handed nothing on: %+v, %v", eats.Name, status, err)
	}
}

// degraded is nil when a host's status exits 6 and says these words.
func degraded(h *host, words ...string) error {
	r := h.try("status")
	if r.Code != control.CodeDegraded {
		return notYet(r)
	}
	for _, word := range words {
		if !strings.Contains(r.Out, word) {
			return notYet(r)
		}
	}
	return nil
}

func notYet(r lab.Result) error {
	return fmt.Errorf("exit %d: %s%s", r.Code, r.Out, r.Stderr)
}
