//go:build e2e

package netns

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// branches is a company with two inside networks, joined by two routers and a
// link between them. The moving inside addresses are of the first:
//
//	   n1   n2   dest            n3   n4   far, 10.21.0.100
//	    └─── lan ─┴─ core20 ───── core21 ─── lan21 ──┘
//	10.20.0.0/24   .254    172.16.0.0/30    .254   10.21.0.0/24
type branches struct {
	*mesh
	core20, core21, far *lab.Space
}

// inBranches puts the last two of four nodes into the second network.
func inBranches(t *testing.T) *branches {
	m := newMesh(t, 4)
	b := &branches{mesh: m, core20: m.Space("core20"), core21: m.Space("core21"), far: m.Space("far")}
	lan21 := m.Space("lan21")
	bridge(lan21)
	for i, n := range m.nodes {
		if i < 2 {
			n.Sh("ip route add 10.21.0.0/24 via 10.20.0.254")
			continue
		}
		n.Sh("ip link del in")
		m.Wire(n.Space, "in", lan21, n.Name)
		lan21.Sh("ip link set %s master sw0", n.Name)
		n.inside = fmt.Sprintf("10.21.0.%d", i+1)
		n.Sh("ip address add %s/24 dev in; ip route add 10.20.0.0/24 via 10.21.0.254", n.inside)
	}
	m.Wire(b.far, "in", lan21, "far")
	lan21.Sh("ip link set far master sw0")
	b.far.Sh("ip address add 10.21.0.100/24 dev in; ip route add default via 10.21.0.254")
	m.Wire(b.core20, "in", m.lan, "core20")
	m.lan.Sh("ip link set core20 master sw0")
	m.Wire(b.core21, "in", lan21, "core21")
	lan21.Sh("ip link set core21 master sw0")
	m.Wire(b.core20, "core", b.core21, "core")
	for i, core := range []*lab.Space{b.core20, b.core21} {
		core.Sh("sysctl -qw net.ipv4.ip_forward=1; ip address add 172.16.0.%d/30 dev core; ip address add 10.2%d.0.254/24 dev in; "+
			"ip route add default via 172.16.0.%d", i+1, i, 2-i)
	}
	for i := range parts {
		b.core20.Sh("ip route add 10.77.%d.0/18 via 10.20.0.%d", i<<6, 201+i)
	}
	m.initMore = append(m.initMore, "--push", "10.21.0.0/24")
	return b
}

// narrow makes the link between the routers carry less than the networks.
func (b *branches) narrow(mtu int) {
	b.core20.Sh("ip link set core mtu %d", mtu)
	b.core21.Sh("ip link set core mtu %d", mtu)
}

// across moves data both ways, to a host in each network.
func (b *branches) across(t *testing.T) {
	t.Helper()
	for _, to := range []struct {
		space   *lab.Space
		address string
	}{{b.dest, destination}, {b.far, "10.21.0.100"}} {
		for _, down := range []bool{false, true} {
			r := b.Transfer(b.client.Space, to.space, to.address, lab.Plan{Bytes: 40 << 20, Down: down}).Wait(within(time.Minute))
			t.Logf("to %s, down %v: %v", to.address, down, r)
			if err := r.Check(); err != nil {
				t.Errorf("to %s, down %v: %v", to.address, down, err)
			}
		}
	}
}

// TestAgentsInAnotherSubnet than the egress: what is handed on, either way, and
// what agents forward themselves, goes through the company's routers, whose
// link may be narrower than the networks. The session's egress and its second
// are where the moving addresses are.
func TestAgentsInAnotherSubnet(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"routed", "strict", "masquerade"} {
		t.Run(kind, func(t *testing.T) {
			b := inBranches(t)
			switch kind {
			case "masquerade":
				b.masquerade()
				b.core20.Sh("for i in 0 64 128 192; do ip route del 10.77.$i.0/18; done")
			case "strict": // each packet where its source's replies would leave
				for _, core := range []*lab.Space{b.core20, b.core21} {
					core.Sh("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.in.rp_filter=1 net.ipv4.conf.core.rp_filter=1")
				}
			}
			b.up()
			b.watch("client")
			b.connect("--slice-mode", "burst")
			s := b.slices(3)
			if !strings.Contains("n1 n2", s.Egress) || !strings.Contains("n1 n2", s.Second) {
				t.Errorf("egress %s, then %s", s.Egress, s.Second)
			}
			b.across(t)
			going := b.transfer(lab.Plan{Pace: 20})
			b.narrow(1400)
			t.Logf("the tunnel fits after %v", b.tunnelMTU(1400-40, 10*time.Second)) // what is handed on is not cut
			if err := going.Finish(within(30 * time.Second)).Check(); err != nil {
				t.Error(err)
			}
			b.across(t)
			if text := b.nodes[3].try("status").Out; strings.Contains(text, "routers between") != (kind == "strict") {
				t.Errorf("status of an agent behind routers:\n%s", text)
			}
		})
	}
}

// TestKillEgressInBranches: who takes over stands where the egress stood, though
// there is more room behind the routers.
func TestKillEgressInBranches(t *testing.T) {
	testKillIn(inBranches(t).mesh, 3, otherStall, egressOfSession)
}
