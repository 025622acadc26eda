//go:build e2e

package netns

import (
	"fmt"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// nat is a router that masquerades what comes in at `in` and leaves at `out`,
// as a home router or a carrier's does.
type nat struct {
	*lab.Space
	outer string
	ports int // the first of the ports it gives away
}

// portsGiven is how many ports a nat has.
const portsGiven = 1000

// newNAT makes a router that is outer on its link to up, which is upAddress.
func (m *mesh) newNAT(name string, up *lab.Space, outer, upAddress string) *nat {
	r := &nat{Space: m.Space(name), outer: outer, ports: 20000}
	m.Wire(r.Space, "out", up, name)
	up.Sh("ip address add %s/24 dev %s", upAddress, name)
	r.Sh("ip address add %s/24 dev out; ip route add default via %s; sysctl -qw net.ipv4.ip_forward=1", outer, upAddress)
	r.Sh("nft add table ip nat; nft add chain ip nat post '{ type nat hook postrouting priority srcnat; }'")
	r.rule()
	return r
}

func (r *nat) rule() {
	r.Sh("nft flush chain ip nat post; nft add rule ip nat post oifname out meta l4proto '{ tcp, udp }' masquerade to :%d-%d",
		r.ports, r.ports+portsGiven-1)
}

// forget loses every mapping, as a rebooted router does: what goes on has other ports.
func (r *nat) forget(m *mesh) {
	m.Helper()
	r.ports += portsGiven
	r.rule()
	if err := r.Do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }); err != nil {
		m.Fatalf("flush the mappings of %s: %v", r.Name, err)
	}
}

// mapped waits until the client's datagrams leave by one of the ports given away now.
func (r *nat) mapped(m *mesh) {
	m.Helper()
	m.Until("datagrams by a new port of "+r.Name, 5*time.Second, func() error {
		return r.Do(func() error {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
			if err != nil {
				return err
			}
			for _, flow := range flows {
				port := int(flow.Reverse.DstPort)
				if flow.Forward.Protocol == unix.IPPROTO_UDP && port >= r.ports && port < r.ports+portsGiven {
					return nil
				}
			}
			return fmt.Errorf("%d flows, none by a port from %d on", len(flows), r.ports)
		})
	})
}

// inside wires a host to the router, on a network of their own.
func (m *mesh) inside(h *host, device string, r *nat, hostAddress, routerAddress string) {
	m.Wire(h.Space, device, r.Space, device)
	r.Sh("ip address add %s/24 dev %s", routerAddress, device)
	h.Sh("ip address add %s/24 dev %s", hostAddress, device)
}

// behindNAT puts the client behind its home's and its carrier's NAT.
func (m *mesh) behindNAT() (home, carrier *nat) {
	m.client.Sh("ip link del out")
	carrier = m.newNAT("cgn", m.wan, "198.51.100.10", "198.51.100.1")
	home = m.newNAT("home", carrier.Space, "100.64.0.10", "100.64.0.1")
	m.inside(m.client, "lan0", home, "192.168.7.10", "192.168.7.1")
	m.client.Sh("ip route add default via 192.168.7.1")
	return home, carrier
}

// both is a download and an upload at once that go on until they are finished.
type both struct {
	m    *mesh
	flow map[string]*lab.Transfer
}

// roamPace is the rate of each transfer while the client moves, Mbit/s.
const roamPace = 80

func (m *mesh) steady() *both {
	b := &both{m: m, flow: map[string]*lab.Transfer{}}
	for name, down := range map[string]bool{"download": true, "upload": false} {
		b.flow[name] = m.transfer(lab.Plan{Down: down, Pace: roamPace})
	}
	b.moves(10 * time.Second)
	return b
}

// moves waits until both transfers have moved on by a few blocks.
func (b *both) moves(limit time.Duration) {
	b.m.Helper()
	for name, flow := range b.flow {
		from := flow.Received()
		b.m.Until(name+" moves", limit, func() error {
			if n := flow.Received() - from; n < 1<<20 {
				return fmt.Errorf("%d bytes since", n)
			}
			return nil
		})
	}
}

// during does something to the network and says how long each transfer stood. Its
// test is one that is repeated when the machine spoils it (unspoiled).
func (b *both) during(what string, limit time.Duration, do func()) {
	b.m.Helper()
	for _, flow := range b.flow {
		flow.Forget()
	}
	cost := b.m.quiet()
	do()
	b.moves(limit + 5*time.Second)
	for name, flow := range b.flow {
		stall, beside := flow.Stall(), cost.Stall()
		b.m.Logf("%s: stall of the %s %d ms, of the flow beside %d ms", what, name, stall.Milliseconds(), beside.Milliseconds())
		b.m.want(lab.InTime(what+": stall of the "+name, stall, beside, limit))
	}
}

// finish holds that nothing was reset and every byte arrived.
func (b *both) finish() {
	b.m.Helper()
	for name, flow := range b.flow {
		r := flow.Finish(within(60 * time.Second))
		b.m.Logf("%s: %v", name, r)
		if err := r.Check(); err != nil {
			b.m.t.Errorf("%s: %v", name, err)
		}
	}
}

// Limits: how long a transfer may stand for each thing that happens.
const (
	remapStall = 2 * time.Second
	moveStall  = 2 * time.Second
	vanishTime = 20 * time.Second
)

// TestClientRoams: a laptop behind two NATs, whose mappings change, whose
// address changes, that changes its network, and that loses it for a while.
func TestClientRoams(t *testing.T) { unspoiled(t, testClientRoams) }

func testClientRoams(t *testing.T) {
	m := newMesh(t, 3)
	home, carrier := m.behindNAT()
	m.up()
	m.watch("cgn")
	m.connect("--slice-mode", "burst")
	m.slices(2)
	b := m.steady()
	b.during("the carrier forgets its mappings", remapStall, func() { carrier.forget(m) })
	carrier.mapped(m)
	b.during("the home router forgets its mappings", remapStall, func() { home.forget(m) })
	home.mapped(m)
	b.during("another address", moveStall, func() {
		m.client.Sh("ip address flush dev lan0; ip address add 192.168.7.11/24 dev lan0; ip route replace default via 192.168.7.1")
	})
	cafe := m.newNAT("cafe", m.wan, "203.0.113.10", "203.0.113.1")
	m.watch("cafe")
	b.during("another network", moveStall, func() {
		m.client.Sh("ip link set lan0 down")
		m.inside(m.client, "wifi0", cafe, "10.9.9.10", "10.9.9.1")
		m.client.Sh("ip route replace default via 10.9.9.1")
	})
	b.during("no network at all, then another", vanishTime+10*time.Second, func() {
		m.client.Sh("ip route del default")
		time.Sleep(vanishTime)
		m.client.Sh("ip link set lan0 up; ip route replace default via 192.168.7.1")
	})
	b.finish()
}
