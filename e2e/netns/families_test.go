//go:build e2e

package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// families is the versions of IP that a network has.
type families uint8

const (
	ipv4 families = 1 << iota
	ipv6
	dualStack = ipv4 | ipv6
)

// plan is the families of a world's networks; pools and pushed prefixes are
// those of the inside. Of both, IPv4 comes first.
type plan struct {
	outside, inside families
	nodes           map[int]families // outside, where a node differs
	pool            string           // in one part; empty: large, and in several
}

// The IPv6 twins of a world's addresses.
const (
	destination6 = "fd20::100"
)

func (p plan) outsideOf(node int) families {
	if f, differs := p.nodes[node]; differs {
		return f
	}
	return p.outside
}

// pick is the first of two that the families have.
func pick(f families, v4, v6 string) string {
	if f&ipv4 != 0 {
		return v4
	}
	return v6
}

// each is what the families have of two.
func (f families) each(v4, v6 string) (all []string) {
	if f&ipv4 != 0 {
		all = append(all, v4)
	}
	if f&ipv6 != 0 {
		all = append(all, v6)
	}
	return all
}

func (p plan) destinations() []string { return p.inside.each(destination, destination6) }

// poolArgs are what init says of the inside: the pool, cut in parts.
func (p plan) poolArgs() (args []string) {
	if p.pool != "" {
		return []string{"--pool", p.pool, "--push", "10.20.0.0/24", "--inside-address", "10.20.0.201"}
	}
	for _, prefix := range p.inside.each("10.77.0.0/16", "fd77::/64") {
		args = append(args, "--pool", prefix)
	}
	for _, prefix := range p.inside.each("10.20.0.0/24", "fd20::/64") {
		args = append(args, "--push", prefix)
	}
	for i := range parts {
		for _, inside := range p.inside.each(fmt.Sprintf("10.20.0.%d", 201+i), fmt.Sprintf("fd20::%d", 201+i)) {
			args = append(args, "--inside-address", inside)
		}
	}
	return args
}

// address gives a device its addresses; nobody has to ask whether they are free.
func address(s *lab.Space, device string, f families, v4, v6 string) {
	for _, a := range f.each(v4+"/24", v6+"/64 nodad") {
		s.Sh("ip address add %s dev %s", a, device)
	}
}

func defaultRoute(s *lab.Space, f families, v4, v6 string) {
	for _, via := range f.each(v4, v6) {
		s.Sh("ip route add default via %s", via)
	}
}

// newClient is one more client's host behind the router.
func (m *mesh) newClient(name string, f families) *host {
	i := len(m.clients)
	h := &host{Space: m.Space(name), mesh: m, dir: m.File(name, "data")}
	net4, net6 := fmt.Sprintf("198.51.%d", 100+i), fmt.Sprintf("2001:db8:%d", 51+i)
	h.outer = pick(f, net4+".10", net6+"::10")
	m.Wire(h.Space, "out", m.wan, name)
	address(h.Space, "out", f, net4+".10", net6+"::10")
	address(m.wan, name, f, net4+".1", net6+"::1")
	defaultRoute(h.Space, f, net4+".1", net6+"::1")
	m.clients = append(m.clients, h)
	return h
}

// String is the name of a family.
func (f families) String() string { return strings.Join(f.each("IPv4", "IPv6"), "+") }

// partRoutes send each part's addresses to the part's moving inside address.
func (p plan) partRoutes() (routes []string) {
	six := netip.MustParseAddr("fd77::").As16()
	for i := range parts {
		six[8] = byte(i << 6)
		routes = append(routes, p.inside.each(
			fmt.Sprintf("10.77.%d.0/18 via 10.20.0.%d", i<<6, 201+i),
			fmt.Sprintf("%v/66 via fd20::%d", netip.AddrFrom16(six), 201+i))...)
	}
	return routes
}

// routeParts gives the destination its way back to clients.
func (m *mesh) routeParts() {
	for _, route := range m.plan.partRoutes() {
		m.dest.Sh("ip route add %s", route)
	}
}

// TestIPv6Only: no host has an IPv4 address.
func TestIPv6Only(t *testing.T) {
	t.Parallel()
	testFamilies(t, plan{outside: ipv6, inside: ipv6})
}

// TestBothInIPv4: each session has an address of each family.
func TestBothInIPv4(t *testing.T) {
	t.Parallel()
	testFamilies(t, plan{outside: ipv4, inside: dualStack})
}

// TestIPv4InIPv6: the inside knows nothing of IPv6.
func TestIPv4InIPv6(t *testing.T) {
	t.Parallel()
	testFamilies(t, plan{outside: ipv6, inside: ipv4})
}

// testFamilies carries each inside family both ways over two agents and more,
// so that packets are handed on too.
func testFamilies(t *testing.T, p plan) {
	m := newMeshOf(t, 3, p)
	m.watch("client", "n1", "n2", "n3")
	m.up()
	took := m.connect("--slice-mode", "burst")
	m.slices(2)
	for _, to := range p.destinations() {
		for _, down := range []bool{false, true} {
			r := m.Transfer(m.client.Space, m.dest, to, lab.Plan{Bytes: 100e6, Down: down}).Wait(within(time.Minute))
			t.Logf("connected after %v; to %s, down %v: %v", took.Round(time.Millisecond), to, down, r)
			if err := r.Check(); err != nil {
				t.Errorf("to %s, down %v: %v", to, down, err)
			}
		}
	}
	m.slices(2)
}

// TestMixedFamilies: a node of one family beside a node of both. Clients of either
// family use both as agents: what a gateway takes in over one family it passes on
// over the other.
func TestMixedFamilies(t *testing.T) {
	t.Parallel()
	for name, single := range map[string]families{"IPv4 node": ipv4, "IPv6 node": ipv6} {
		t.Run(name, func(t *testing.T) {
			m := newMeshOf(t, 2, plan{outside: dualStack, inside: dualStack, nodes: map[int]families{2: single}})
			m.watch("n1", "n2")
			m.up()
			for i, f := range []families{ipv4, ipv6} {
				m.client = m.newClient(fmt.Sprintf("client%d", i+1), f)
				m.watch(m.client.Name)
				m.carryAll()
			}
		})
	}
}

// carryAll connects the client and moves data both ways, by the node of one family too.
func (m *mesh) carryAll() {
	m.Helper()
	took := m.connect("--slice-mode", "burst")
	m.measured(2)
	for _, down := range []bool{false, true} {
		r := m.transfer(lab.Plan{Bytes: 50e6, Down: down}).Wait(within(time.Minute))
		m.t.Logf("the client at %s connected after %v; down %v: %v", m.client.outer, took.Round(time.Millisecond), down, r)
		if err := r.Check(); err != nil {
			m.t.Errorf("the client at %s, down %v: %v", m.client.outer, down, err)
		}
	}
	m.Until("the node of one family carried its share", 10*time.Second, func() error {
		s, err := m.session()
		for _, slice := range s.Slices {
			if slice.Agent == "n2" && slice.In > 1e6 && slice.Out > 1e6 {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("slices %+v", s.Slices))
	})
	if !m.client.process.Terminate(10 * time.Second) {
		m.t.Errorf("the client at %s does not end", m.client.outer)
	}
}

// TestOtherFamily: the client's first family is a black hole; it connects by
// the other, and when that one dies under a transfer, moves to the first.
func TestOtherFamily(t *testing.T) {
	t.Parallel()
	unspoiled(t, testOtherFamily)
}

func testOtherFamily(t *testing.T) {
	m := newMeshOf(t, 3, plan{outside: dualStack, inside: ipv4})
	m.watch("client")
	m.up()
	m.admit()
	shut := func(family string) {
		m.wan.Sh("nft add rule inet way forward iifname client meta nfproto %s drop", family)
	}
	m.wan.Sh("nft 'add table inet way; add chain inet way forward { type filter hook forward priority 0; }'")
	shut("ipv4")
	cost := m.quiet()
	took := m.connect()
	beside := cost.Stall()
	down := m.transfer(lab.Plan{Down: true})
	m.Until("the transfer is under way", 10*time.Second, func() error {
		if n := down.Received(); n < 20<<20 {
			return fmt.Errorf("%d bytes", n)
		}
		return nil
	})
	m.wan.Sh("nft flush chain inet way forward")
	shut("ipv6")
	down.Forget()
	before := down.Received()
	m.Until("the transfer goes on by IPv4", 15*time.Second, func() error {
		if n := down.Received() - before; n < 20<<20 {
			return fmt.Errorf("%d bytes", n)
		}
		return nil
	})
	stall := down.Stall()
	r := down.Finish(within(20 * time.Second))
	t.Logf("connected past a black hole after %v; stalled for %v when the way died; %v", took.Round(time.Millisecond), stall, r)
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	m.want(lab.InTime("connecting past a black hole", took, beside, 3*time.Second))
}
