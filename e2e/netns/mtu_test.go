//go:build e2e

package netns

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
)

// jumbo makes every link of the world carry 9000 bytes.
func (m *mesh) jumbo() {
	m.Helper()
	all := append([]*lab.Space{m.wan, m.lan, m.dest, m.client.Space}, spaces(m.nodes)...)
	for _, s := range all {
		s.Sh(`for d in $(ls /sys/class/net); do [ $d = lo ] || [ $d = sw0 ] || ip link set $d mtu 9000; done
			[ ! -e /sys/class/net/sw0 ] || ip link set sw0 mtu 9000`)
	}
}

func spaces(hosts []*host) (all []*lab.Space) {
	for _, h := range hosts {
		all = append(all, h.Space)
	}
	return all
}

// access sets the MTU of a host's outer link, at both ends.
func (m *mesh) access(h *host, mtu int) {
	m.Helper()
	h.Sh("ip link set out mtu %d", mtu)
	m.wan.Sh("ip link set %s mtu %d", h.Name, mtu)
}

// tunnelMTU waits until the client's TUN has the MTU.
func (m *mesh) tunnelMTU(want int, within time.Duration) time.Duration {
	m.Helper()
	return m.Until(fmt.Sprintf("an MTU of %d in the tunnel", want), within, func() error {
		if got := m.client.Sh("cat /sys/class/net/mesh0/mtu"); got != fmt.Sprint(want) {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

// offered is what a session offers over outer links of IPv4 and an MTU.
func offered(outer int) int { return max(pmtu.MinMTU, pmtu.Inner(outer, false)) }

// TestMTU: the tunnel carries what the path does, from links of 1280 bytes to
// those of 9000, found out within a second, and says how much that is to who
// sends more, from outside and from inside.
func TestMTU(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2)
	m.jumbo()
	m.up()
	for _, outer := range []int{1280, 1400, 1500, 9000} {
		t.Run(fmt.Sprint(outer), func(t *testing.T) {
			m.access(m.client, outer)
			m.dest.Sh("ip route flush cache") // hosts remember for ten minutes what they were told
			m.connect("--slice-mode", "burst")
			m.slices(2)
			took := m.tunnelMTU(offered(outer), 5*time.Second)
			t.Logf("tunnel MTU %d after %v", offered(outer), took)
			m.bothWays(t)
			m.pings(t, offered(outer))
			m.datagrams(t, 30_000)
			m.disconnect()
		})
	}
}

func (m *mesh) disconnect() {
	m.Helper()
	if !m.client.process.Terminate(15 * time.Second) {
		m.Fatalf("the client does not end")
	}
}

// pings sends the largest packet both ways, and one that is a byte larger.
func (m *mesh) pings(t *testing.T, mtu int) {
	t.Helper()
	lease := m.lease()
	for _, way := range []struct {
		from *lab.Space
		to   string
	}{{m.client.Space, destination}, {m.dest, lease}} {
		fits := way.from.Try(nil, "ping", "-c1", "-W2", "-Mdo", "-s", fmt.Sprint(mtu-28), way.to)
		if fits.Code != 0 {
			t.Errorf("%d bytes from %s do not pass: %s%s", mtu, way.from.Name, fits.Out, fits.Stderr)
		}
		if mtu >= 8900 {
			continue // the sender's own link says no before
		}
		over := way.from.Try(nil, "ping", "-c2", "-i0.3", "-W2", "-Mdo", "-s", fmt.Sprint(mtu-27), way.to)
		if said := over.Out + over.Stderr; over.Code == 0 || !strings.Contains(said, fmt.Sprintf("mtu = %d", mtu)) && !strings.Contains(said, fmt.Sprintf("mtu=%d", mtu)) {
			t.Errorf("%d bytes from %s are not refused with an MTU of %d: %s", mtu+1, way.from.Name, mtu, said)
		}
	}
}

// lease is the client's IPv4 address in the tunnel.
func (m *mesh) lease() string {
	m.Helper()
	out := m.client.Sh("ip -4 -o address show dev mesh0")
	address, _, _ := strings.Cut(strings.Fields(out)[3], "/")
	return address
}

// datagrams sends a large UDP datagram, and gets it back: in fragments both ways.
func (m *mesh) datagrams(t *testing.T, size int) {
	t.Helper()
	var echo, caller *net.UDPConn
	err := m.dest.Do(func() (err error) {
		echo, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.ParseIP(destination)})
		return err
	})
	if err != nil {
		m.Fatalf("%v", err)
	}
	defer echo.Close()
	err = m.client.Do(func() (err error) {
		caller, err = net.DialUDP("udp4", nil, echo.LocalAddr().(*net.UDPAddr))
		return err
	})
	if err != nil {
		m.Fatalf("%v", err)
	}
	defer caller.Close()
	sent := make([]byte, size)
	for i := range sent {
		sent[i] = byte(i / 7)
	}
	buffer := make([]byte, 1<<16)
	// UDP promises nothing: of a few, one arrives.
	for range 5 {
		if _, err := caller.Write(sent); err != nil {
			t.Errorf("send %d bytes: %v", size, err)
			return
		}
		echo.SetReadDeadline(time.Now().Add(time.Second))
		n, from, err := echo.ReadFromUDPAddrPort(buffer)
		if err != nil || !bytes.Equal(buffer[:n], sent) {
			continue
		}
		if _, err := echo.WriteToUDPAddrPort(buffer[:n], from); err != nil {
			t.Errorf("send %d bytes back: %v", size, err)
		}
		caller.SetReadDeadline(time.Now().Add(time.Second))
		if n, err = caller.Read(buffer); err == nil && bytes.Equal(buffer[:n], sent) {
			return
		}
	}
	t.Errorf("no datagram of %d bytes came and went", size)
}

// TestMTUBetweenNodes: the smallest path wins, also one between gateway and
// agent; an inside network that takes less than a hand-on gets fragments.
func TestMTUBetweenNodes(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2)
	m.up()
	m.access(m.nodes[1], 1400)
	m.connect("--slice-mode", "burst")
	m.slices(2)
	m.tunnelMTU(offered(1400), 5*time.Second)
	m.bothWays(t)
	m.pings(t, offered(1400))
	m.disconnect()
	for _, s := range append(spaces(m.nodes), m.dest) {
		s.Sh("ip link set in mtu 1300")
	}
	m.dest.Sh("ip route flush cache")
	time.Sleep(time.Second) // agents look at their interfaces twice a second
	m.connect("--slice-mode", "burst")
	m.slices(2)
	m.tunnelMTU(pmtu.MinMTU, 5*time.Second)
	m.bothWays(t)
	m.datagrams(t, 1252)
}

func (m *mesh) bothWays(t *testing.T) {
	t.Helper()
	for _, plan := range []lab.Plan{{Bytes: 20 << 20}, {Bytes: 20 << 20, Down: true}} {
		r := m.transfer(plan).Wait(within(30 * time.Second))
		t.Logf("down %v: %v", plan.Down, r)
		if err := r.Check(); err != nil {
			t.Error(err)
		}
	}
}

// TestBlackHole: a link in the middle takes less from one moment on, and nobody
// says so. Transfers in both directions go on within seconds, and end well; also
// where the sender inside knows the client by its egress's address only.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"routed", "masquerade"} {
		t.Run(kind, func(t *testing.T) {
			unspoiled(t, func(t *testing.T) {
				m := newMesh(t, 2)
				if kind == "masquerade" {
					m.masquerade()
				}
				m.up()
				m.connect("--slice-mode", "burst")
				m.slices(2)
				m.tunnelMTU(offered(1500), 5*time.Second)
				m.shrink(t, 1400)
			})
		})
	}
}

// shrink lowers the MTU of the client's link at its far end, under transfers.
func (m *mesh) shrink(t *testing.T, mtu int) {
	t.Helper()
	// A veth pair passes trains on unsplit, however small its MTU is.
	m.client.Sh("ethtool -K out tso off gso off tx-udp-segmentation off")
	m.wan.Sh("nft add table ip silent; nft add chain ip silent out '{ type filter hook output priority 0; }'" +
		"; nft add rule ip silent out icmp type destination-unreachable drop")
	plans := []lab.Plan{{Pace: 50}, {Pace: 50, Down: true}}
	var going []*lab.Transfer
	for _, plan := range plans {
		going = append(going, m.transfer(plan))
	}
	time.Sleep(2 * time.Second)
	for _, g := range going {
		g.Forget()
	}
	cost := m.quiet()
	m.wan.Sh("ip link set client mtu %d", mtu)
	took := m.tunnelMTU(offered(mtu), 5*time.Second)
	time.Sleep(4 * time.Second)
	for i, g := range going {
		r := g.Finish(within(20 * time.Second))
		t.Logf("the tunnel's MTU followed after %v; down %v: longest stall %v; %v", took, plans[i].Down, g.Stall(), r)
		if err := r.Check(); err != nil {
			t.Error(err)
		}
		m.want(lab.InTime(fmt.Sprintf("stall, down %v", plans[i].Down), g.Stall(), cost.Stall(), 6*time.Second))
	}
}

// TestMarksArrive: DSCP stands on the outer packets and arrives inside, both
// ways; what a router in the outer network marks as congestion arrives too; and
// each way costs one hop.
func TestMarksArrive(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2)
	m.up()
	for _, s := range []*lab.Space{m.client.Space, m.dest} {
		s.Sh("sysctl -qw net.ipv4.tcp_ecn=1")
	}
	m.connect("--slice-mode", "burst")
	m.slices(2)
	m.wan.Sh("nft add table ip outer; nft add chain ip outer forward '{ type filter hook forward priority 0; }'")
	for _, rule := range []string{
		`udp dport 6484 ip dscp cs5 counter comment '"up"'`, `udp sport 6484 ip dscp cs5 counter comment '"down"'`,
		"ip ecn '{ ect0, ect1 }' ip ecn set ce",
	} {
		m.wan.Sh("nft add rule ip outer forward %s", rule)
	}
	for s, device := range map[*lab.Space]string{m.dest: "in", m.client.Space: "mesh0"} {
		s.Sh("nft add table ip seen; nft add chain ip seen in '{ type filter hook prerouting priority 0; }'")
		for _, rule := range []string{`ip dscp cs5 counter comment '"dscp"'`, `ip protocol tcp ip ecn ce counter comment '"ce"'`} {
			s.Sh("nft add rule ip seen in iifname %s %s", device, rule)
		}
	}
	ping := m.client.Sh("ping -c3 -i0.2 -W2 -Q 0xa0 %s", destination) // 0xa0 is cs5
	if !strings.Contains(ping, "ttl=63") {
		t.Errorf("not one hop: %s", ping)
	}
	if r := m.client.Try(nil, "ping", "-c1", "-W2", "-t1", destination); !strings.Contains(r.Out, "Time to live exceeded") {
		t.Errorf("TTL 1 does not end at the agent: %s", r.Out)
	}
	m.bothWays(t)
	for where, wants := range map[*lab.Space][]string{m.wan: {"up", "down"}, m.dest: {"dscp", "ce"}, m.client.Space: {"dscp", "ce"}} {
		rules := where.Sh("nft list ruleset")
		for _, want := range wants {
			counted := false
			for _, line := range strings.Split(rules, "\n") {
				if strings.Contains(line, `comment "`+want+`"`) {
					counted = !strings.Contains(line, "packets 0 ")
				}
			}
			if !counted {
				t.Errorf("no packet counted as %q on %s:\n%s", want, where.Name, rules)
			}
		}
	}
}
