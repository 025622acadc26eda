//go:build e2e

package netns

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// apart moves every node's outer leg into a subnet of its own, behind the router.
func (m *mesh) apart() {
	for i, n := range m.nodes {
		n.outer = fmt.Sprintf("203.0.%d.1", 113+i)
		router := fmt.Sprintf("203.0.%d.254", 113+i)
		m.wan.Sh("ip link set %s nomaster; ip address add %s/24 dev %s", n.Name, router, n.Name)
		n.Sh("ip address flush dev out; ip address add %s/24 dev out; ip route replace default via %s", n.outer, router)
	}
}

// TestGatewaysInSeveralSubnets: a client leaves a gateway that it cannot reach
// any more for one in another subnet, in the middle of its transfers.
func TestGatewaysInSeveralSubnets(t *testing.T) {
	t.Parallel()
	unspoiled(t, testGatewaysInSeveralSubnets)
}

func testGatewaysInSeveralSubnets(t *testing.T) {
	m := newMesh(t, 3)
	m.apart()
	m.up()
	m.watch("client")
	m.connect("--slice-mode", "burst")
	m.slices(2)
	b := m.steady()
	used := m.gatewayInUse()
	b.during("the gateway in use is cut off from the client", otherStall, func() {
		m.wan.Sh("nft add table ip cut; nft add chain ip cut forward '{ type filter hook forward priority 0; }'; "+
			"nft add rule ip cut forward iifname client ip daddr %s drop; nft add rule ip cut forward oifname client ip saddr %s drop", used, used)
	})
	if next := m.gatewayInUse(); next == used {
		t.Errorf("the client stays with %s", used)
	}
	b.finish()
}

// gatewayInUse is its address, as the client's status says.
func (m *mesh) gatewayInUse() (address string) {
	m.Helper()
	m.Until("the client's status", 5*time.Second, func() error {
		s, err := m.clientStatus()
		for _, g := range s.Gateways {
			if g.InUse {
				address = g.Address.Addr().String()
			}
		}
		return err
	})
	return address
}

// TestOneInterface: nodes whose outside and inside are one interface.
func TestOneInterface(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 3)
	edge := m.Space("edge")
	m.Wire(edge, "out", m.wan, "edge")
	m.wan.Sh("ip address add 198.18.0.1/24 dev edge; ip route add 10.20.0.0/24 via 198.18.0.2")
	edge.Sh("ip address add 198.18.0.2/24 dev out; ip route add default via 198.18.0.1; sysctl -qw net.ipv4.ip_forward=1")
	m.Wire(edge, "in", m.lan, "edge")
	m.lan.Sh("ip link set edge master sw0")
	edge.Sh("ip address add 10.20.0.254/24 dev in")
	for _, n := range m.nodes {
		n.Sh("ip link del out; ip route add default via 10.20.0.254")
		n.outer = n.inside
	}
	m.up()
	m.watch("client")
	m.connect("--slice-mode", "burst")
	m.slices(2)
	for _, plan := range []lab.Plan{{Bytes: 30 << 20}, {Bytes: 30 << 20, Down: true}} {
		r := m.transfer(plan).Wait(within(time.Minute))
		t.Logf("down %v: %v", plan.Down, r)
		if err := r.Check(); err != nil {
			t.Error(err)
		}
	}
	m.handOnAsAnother(edge)
}

// handOnAsAnother sends from a place where strangers stand what one node hands on to
// another, with the other's address and the true SPIs of a session, which no stranger
// knows: nothing of it reaches the client or the destination.
func (m *mesh) handOnAsAnother(edge *lab.Space) {
	m.Helper()
	session, err := m.session()
	if err != nil {
		m.Fatalf("%v", err)
	}
	lease, far := session.Leases[0], netip.MustParseAddr(destination)
	seen := m.dest.Watch("in", []byte(attackCanary))
	before, dropped := m.client.Counter("mesh0", "rx_packets"), m.drops()["clear"]
	var sent uint64
	for _, n := range m.nodes {
		var frames [][]byte
		wire, to := edge.Towards("in", n.inside), netip.AddrPortFrom(netip.MustParseAddr(n.inside), 6486)
		for _, other := range m.nodes {
			for _, slice := range session.Slices {
				spi, err := strconv.ParseUint(slice.SPI, 0, 32)
				if err != nil {
					m.Fatalf("%v", err)
				}
				for _, inner := range [][]byte{
					lab.IPv4(unix.IPPROTO_UDP, far, lease, lab.UDP(9, 9, []byte(attackCanary))),
					lab.IPv4(unix.IPPROTO_UDP, lease, far, lab.UDP(9, 9, []byte(attackCanary))),
				} {
					mark := dataplane.Marker{Type: dataplane.MarkerHandOn, Hops: 1, SPI: uint32(spi)}
					frames = append(frames, wire.Datagram(netip.AddrPortFrom(netip.MustParseAddr(other.inside), 6486), to, mark.Append(nil, inner)))
				}
			}
		}
		flood := edge.Flood("in", frames, attackRate)
		time.Sleep(attackTime)
		count, _, err := flood.End()
		if err != nil || count == 0 {
			m.Fatalf("%d frames sent: %v", count, err)
		}
		sent += count
	}
	time.Sleep(200 * time.Millisecond)
	got := m.client.Counter("mesh0", "rx_packets") - before
	m.Logf("of %d packets handed on by a stranger in a node's name the client got %d, %d were dropped as clear", sent, got, m.drops()["clear"]-dropped)
	if got > 20 { // its own housekeeping
		m.t.Errorf("the client got %d packets that no node handed on", got)
	}
	if m.drops()["clear"] == dropped {
		m.t.Error("none was dropped for being in clear: the attack proved nothing")
	}
	if w, err := seen.End(); err != nil || len(w.Canaries) > 0 {
		m.t.Errorf("at the destination: %v %v", w.Canaries, err)
	}
}
