//go:build e2e

package netns

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// directly waits until so many slices go straight to their agents, or come back
// from there when it is none.
func (m *mesh) directly(count int, limit time.Duration) (took time.Duration) {
	m.Helper()
	return m.Until(fmt.Sprintf("%d slices go directly", count), limit, func() error {
		s, err := m.clientStatus()
		direct := 0
		for _, slice := range s.Slices {
			if slice.State == "up" && slice.Direct.IsValid() {
				direct++
			}
		}
		if err == nil && direct != count {
			err = fmt.Errorf("%d do: %+v", direct, s.Slices)
		}
		return err
	})
}

// directMesh is a mesh of four nodes whose client goes straight to three agents.
func directMesh(t *testing.T) *mesh {
	m := newMesh(t, 4)
	m.initMore = []string{"--direct"}
	m.up()
	m.watch("client")
	m.connect("--slice-mode", "burst")
	m.slices(3)
	t.Logf("direct after %v", m.directly(3, 10*time.Second))
	return m
}

// bystander is the node that has no slice.
func (m *mesh) bystander() *host {
	m.Helper()
	agents := map[string]bool{}
	for _, slice := range m.slices(3).Slices {
		agents[slice.Agent] = true
	}
	for _, n := range m.nodes {
		if !agents[n.Name] {
			return n
		}
	}
	m.Fatalf("every node has a slice: %v", agents)
	return nil
}

// TestDirect: both ways through three agents, each entered at its own address;
// the node without a slice carries none of it.
func TestDirect(t *testing.T) {
	t.Parallel()
	m := directMesh(t)
	idle := m.bystander()
	m.watch(idle.Name)
	outside, inner := m.watches["client"], m.watches[idle.Name]
	for _, plan := range []lab.Plan{{Bytes: 60 << 20}, {Bytes: 60 << 20, Down: true}} {
		outside.Reset()
		inner.Reset()
		r := m.transfer(plan).Wait(within(time.Minute))
		t.Logf("down %v: %v", plan.Down, r)
		if err := r.Check(); err != nil {
			t.Error(err)
		}
		for end, bytes := range outside.Seen().Peers {
			t.Logf("down %v: client and %v: %.1f MB", plan.Down, end.At, float64(bytes)/1e6)
			if end.At.Addr().String() == idle.outer && bytes > plan.Bytes/1000 {
				t.Errorf("down %v: %d bytes by way of %s", plan.Down, bytes, idle.Name)
			}
		}
		if seen := inner.Seen(); seen.Bytes > plan.Bytes/50 {
			t.Errorf("down %v: %d bytes on the link of %s", plan.Down, seen.Bytes, idle.Name)
		}
	}
	m.Until("the mesh knows of it", 5*time.Second, func() error {
		s, err := m.session()
		for _, slice := range s.Slices {
			if slice.State == "up" && !slice.Direct {
				err = fmt.Errorf("%+v", slice)
			}
		}
		return err
	})
	m.atOwnAddresses(t)
	t.Logf("status:\n%s", m.client.must("status", "--run-dir", m.File("client", "run")))
}

// atOwnAddresses holds that each slice goes to a node of its own.
func (m *mesh) atOwnAddresses(t *testing.T) {
	t.Helper()
	s, err := m.clientStatus()
	if err != nil {
		t.Fatal(err)
	}
	nodes := map[netip.AddrPort]control.ClientSlice{}
	for _, slice := range s.Slices {
		if other, twice := nodes[slice.Direct]; twice {
			t.Errorf("two slices to one address: %+v, %+v", other, slice)
		}
		nodes[slice.Direct] = slice
	}
}

// TestDirectBlocked: a firewall takes the direct ways away under transfers, and
// gives them back. The slices go through the gateway meanwhile, none is lost.
func TestDirectBlocked(t *testing.T) {
	t.Parallel()
	unspoiled(t, testDirectBlocked)
}

func testDirectBlocked(t *testing.T) {
	m := directMesh(t)
	before := m.slices(3)
	open := m.bystander()
	b := m.steady()
	b.during("the direct ways are blocked", otherStall, func() {
		m.wan.Sh("nft add table ip only; nft add chain ip only forward '{ type filter hook forward priority 0; }'; "+
			"nft add rule ip only forward iifname client ip daddr != %s meta l4proto udp drop; "+
			"nft add rule ip only forward oifname client ip saddr != %s meta l4proto udp drop", open.outer, open.outer)
	})
	t.Logf("through the gateway after %v", m.directly(0, 5*time.Second))
	if used := m.gatewayInUse(); used != open.outer {
		t.Errorf("through %s, open is %s", used, open.outer)
	}
	b.during("the direct ways are free again", otherStall, func() {
		m.wan.Sh("nft delete table ip only")
		t.Logf("direct after %v", m.directly(3, 30*time.Second))
	})
	b.finish()
	after := m.slices(3)
	for i, slice := range after.Slices {
		if slice.Epoch != before.Slices[i].Epoch || slice.Agent != before.Slices[i].Agent {
			t.Errorf("a slice was given up: %+v, before %+v", slice, before.Slices[i])
		}
	}
}

// TestKillDirectAgent: the way to it was its own, so its silence says nothing of
// the gateway, and still it is dropped in time.
func TestKillDirectAgent(t *testing.T) {
	m := newMesh(t, 4)
	m.initMore = []string{"--direct"}
	testKillIn(m, 3, agentStall, func(m *mesh) (*host, error) {
		m.directly(3, 15*time.Second)
		r, err := m.rolesInUse()
		if err != nil {
			return nil, err
		}
		used := m.gatewayInUse()
		for _, slice := range r.session.Slices {
			if n := m.node(slice.Agent); slice.State == "up" && n.outer != used && slice.Agent != r.session.Egress && slice.Agent != r.leader {
				return n, nil
			}
		}
		return nil, fmt.Errorf("no agent without another role: %v, gateway %s", r, used)
	})
}

// TestDirectRoams: behind NATs each direct slice has a mapping of its own; they
// are forgotten, and the client gets another address. It goes on, and directly.
func TestDirectRoams(t *testing.T) { unspoiled(t, testDirectRoams) }

func testDirectRoams(t *testing.T) {
	m := newMesh(t, 3)
	m.initMore = []string{"--direct"}
	home, carrier := m.behindNAT()
	m.up()
	m.watch("cgn")
	m.connect("--slice-mode", "burst")
	m.slices(2)
	m.directly(2, 10*time.Second)
	b := m.steady()
	b.during("the carrier forgets its mappings", remapStall, func() { carrier.forget(m) })
	b.during("the home router forgets its mappings", remapStall, func() { home.forget(m) })
	m.directly(2, 10*time.Second)
	b.during("another address", moveStall, func() {
		m.client.Sh("ip address flush dev lan0; ip address add 192.168.7.11/24 dev lan0; ip route replace default via 192.168.7.1")
	})
	t.Logf("direct again after %v", m.directly(2, 10*time.Second))
	b.finish()
}
