//go:build e2e

package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// Limits of what other software may cost by taking away what is ours, where it
// is ours to put back.
const (
	undoneStall = 2 * time.Second
	undoneTries = 2  // of each undoing, in `make test`
	undoneMany  = 20 // in `make e2e`
)

// Who undoes the same ten times in a row is taken for one who fights, and what is ours
// is put back once a second only. Other software does not; so it rests in between,
// for longer than what counts as in a row.
const (
	undoneRow  = 8
	undoneRest = 2500 * time.Millisecond
)

func undoneCount(t *testing.T) int {
	if os.Getenv(envMatrix) == "all" {
		return undoneMany
	}
	return setting(t, envTries, undoneTries)
}

// pulse is a datagram and its echo, fifty times a second.
type pulse struct {
	stop chan struct{}
	done sync.WaitGroup
	mu   sync.Mutex // protects the fields below
	last time.Time
	gap  time.Duration
}

// pulse begins one between two hosts.
func (m *mesh) pulse(near, far *lab.Space, address string) *pulse {
	m.Helper()
	p := &pulse{stop: make(chan struct{}), last: time.Now()}
	var server, client *net.UDPConn
	if err := far.Do(func() (err error) {
		server, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 0)))
		return err
	}); err != nil {
		m.Fatalf("pulse: %v", err)
	}
	if err := near.Do(func() (err error) {
		client, err = net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
		return err
	}); err != nil {
		m.Fatalf("pulse: %v", err)
	}
	p.done.Go(func() { echo(server) })
	p.done.Go(func() { p.beat(client) })
	m.Cleanup(func() {
		close(p.stop)
		server.Close()
		client.Close()
		p.done.Wait()
	})
	return p
}

// echo sends back what comes, until the socket is closed.
func echo(server *net.UDPConn) {
	b := make([]byte, 64)
	for {
		n, from, err := server.ReadFromUDPAddrPort(b)
		if err != nil {
			return
		}
		_, _ = server.WriteToUDPAddrPort(b[:n], from) // what is lost is asked for again
	}
}

func (p *pulse) beat(client *net.UDPConn) {
	b := make([]byte, 64)
	for {
		select {
		case <-p.stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		_, _ = client.Write([]byte("pulse")) // refused while the host is shut
		client.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := client.Read(b)
		p.mu.Lock()
		p.gap = max(p.gap, time.Since(p.last))
		if err == nil {
			p.last = time.Now()
		}
		p.mu.Unlock()
	}
}

// forget begins the measurement anew.
func (p *pulse) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gap = 0
}

// stall is the longest time without an echo, and whether there is one now.
func (p *pulse) stall() (longest time.Duration, alive bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gap, time.Since(p.last) < 200*time.Millisecond
}

// undoing is what other software does.
type undoing struct {
	name string
	do   func()
	acts time.Duration // how long it goes on after do
}

// undo does it again and again, and holds how long the traffic through the
// tunnel stands still against a flow beside it that nobody disturbs.
func (m *mesh) undo(u undoing, through, beside *pulse) {
	m.Helper()
	var stalls []string
	for try, count := 0, undoneCount(m.t); try < count; try++ {
		if count > undoneRow && try%undoneRow == 0 {
			time.Sleep(undoneRest)
		}
		m.Until("an echo through the tunnel", 20*time.Second, func() error {
			if _, alive := through.stall(); !alive {
				return fmt.Errorf("%s, before try %d: none", u.name, try+1)
			}
			return nil
		})
		through.forget()
		beside.forget()
		u.do()
		time.Sleep(300*time.Millisecond + u.acts)
		m.Until("an echo through the tunnel again", 20*time.Second, func() error {
			if _, alive := through.stall(); !alive {
				return fmt.Errorf("%s, try %d: none", u.name, try+1)
			}
			return nil
		})
		longest, _ := through.stall()
		cost, _ := beside.stall()
		stalls = append(stalls, fmt.Sprint(longest.Milliseconds()))
		if longest-cost > undoneStall {
			m.t.Errorf("%s, try %d: nothing came for %v (beside: %v)", u.name, try+1, longest, cost)
		}
	}
	m.t.Logf("%s: stood still for %s ms", u.name, strings.Join(stalls, " "))
}

// TestClientUndone: whatever other software takes from a client's host under
// traffic, nothing leaves in clear at its router (mesh.afterwards looks at every
// packet), and it is put back at once.
func TestClientUndone(t *testing.T) {
	m := newMesh(t, 2)
	m.watch("client")
	m.up()
	networkd := m.client.Networkd("out", clientOuter+"/24", "198.51.100.1")
	m.Until("networkd has configured the link", 10*time.Second, func() error {
		if r := m.client.Try(nil, "ip", "route", "show", "default"); !strings.Contains(r.Out, "198.51.100.1") {
			return fmt.Errorf("routes: %s%s", r.Out, r.Stderr)
		}
		return nil
	})
	m.connect()
	through, beside := m.pulse(m.client.Space, m.dest, destination), m.pulse(m.dest, m.nodes[0].Space, "10.20.0.1")
	up := m.transfer(lab.Plan{Pace: 20})
	sh := func(command string) func() { return func() { m.client.Sh("%s", command) } }
	for _, u := range []undoing{
		{"networkd restarted", networkd.Restart, time.Second},
		{"ruleset flushed", sh("nft flush ruleset"), 0},
		{"rule deleted", sh("ip rule del pref 16484"), 0},
		{"rules flushed", sh("ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default"), 0},
		{"all routes of ours deleted", sh("ip route flush table 6484"), 0},
		{"interface down and up", sh("ip link set mesh0 down; ip link set mesh0 up"), 0},
		{"addresses flushed", sh("ip address flush dev mesh0"), 0},
	} {
		m.undo(u, through, beside)
	}
	if !up.Running() {
		t.Errorf("the transfer ended: %v", up.Wait(within(time.Second)))
	}
	status, err := m.clientStatus()
	if err != nil || status.PutBack["rule"] == 0 || status.PutBack["fence"] == 0 {
		t.Errorf("status counts %v put back (%v)", status.PutBack, err)
	}
	if !strings.Contains(m.client.process.Tail(200), "it is put back") {
		t.Error("the log of the client does not say that anything was put back")
	}
	m.loseTUN(m.client)
	if err := m.routed(); err == nil {
		t.Error("there is a way into a tunnel that is gone")
	}
	m.client.Sh("ip rule flush; ip rule add pref 32766 lookup main; ! ping -n -c 2 -W 1 -i 0.2 %s", destination)
	m.connect() // takes over what was left
	m.client.Sh("nft flush ruleset; true")
}

// loseTUN removes the interface under a daemon, which has to end so that it is
// started again.
func (m *mesh) loseTUN(h *host) {
	m.Helper()
	h.Sh("ip link del mesh0")
	if code, ended := h.process.Wait(5 * time.Second); !ended || code == 0 {
		m.t.Errorf("%s without its interface: ended %v, exit %d", h.Name, ended, code)
	} else if said := h.process.Tail(3); !strings.Contains(said, "removed by other software") && !strings.Contains(said, "mesh0") {
		m.t.Errorf("%s did not say why it ended: %s", h.Name, said)
	}
}

// TestEgressUndone: the same at the one node of a mesh, which is gateway, agent
// and egress. No packet of a lease leaves by its outer link, and where the mesh
// masquerades no inner address is seen on the inside network.
func TestEgressUndone(t *testing.T) {
	for _, masquerade := range []bool{false, true} {
		t.Run(fmt.Sprintf("masquerade %v", masquerade), func(t *testing.T) { testEgressUndone(t, masquerade) })
	}
}

func testEgressUndone(t *testing.T, masquerade bool) {
	m := newMesh(t, 1)
	if masquerade {
		m.masquerade()
	}
	m.watch("client", "n1")
	m.dest.Sh("nft 'add table ip look; add chain ip look in { type filter hook prerouting priority -300; }; add rule ip look in ip saddr 10.77.0.0/16 counter'")
	n := m.nodes[0]
	networkd := n.Networkd("out", "192.0.2.1/24", "192.0.2.254")
	m.Until("networkd has configured the link", 10*time.Second, func() error {
		if r := n.Try(nil, "ip", "route", "show", "default"); !strings.Contains(r.Out, "192.0.2.254") {
			return fmt.Errorf("routes: %s%s", r.Out, r.Stderr)
		}
		return nil
	})
	m.up()
	m.connect()
	through, beside := m.pulse(m.client.Space, m.dest, destination), m.pulse(m.dest, m.lanEcho(), "10.20.0.99")
	down := m.transfer(lab.Plan{Pace: 20, Down: true})
	sh := func(command string) func() { return func() { n.Sh("%s", command) } }
	for _, u := range []undoing{
		{"networkd restarted", networkd.Restart, time.Second},
		{"ruleset flushed", sh("nft flush ruleset"), 0},
		{"pool's routes deleted", sh("ip route flush proto 109"), 0},
		{"interface down and up", sh("ip link set mesh0 down; ip link set mesh0 up"), 0},
		{"addresses flushed", sh("ip address flush dev mesh0"), 0},
		{"forwarding off", sh("sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.ipv4.ip_forward=0; sysctl -qw net.ipv4.conf.mesh0.rp_filter=1"), 0},
	} {
		m.undo(u, through, beside)
	}
	if !down.Running() {
		t.Errorf("the transfer ended: %v", down.Wait(within(time.Second)))
	}
	if seen := m.dest.Sh("nft list chain ip look in"); masquerade && !strings.Contains(seen, "packets 0 ") {
		t.Errorf("inner addresses on the inside network: %s", seen)
	}
	// Who did not forward for a part of the time says so until it has for a while.
	m.Until("the status is ok", 10*time.Second, func() error {
		status, err := n.status()
		if err == nil && (status.Health != "ok" || status.PutBack["route"] == 0 || status.PutBack["fence"] == 0) {
			err = fmt.Errorf("%s %q, %v put back", status.Health, status.Problems, status.PutBack)
		}
		return err
	})
	n.Sh("nft 'add table inet fw; add chain inet fw f { type filter hook forward priority 10; policy drop; }'")
	m.Until("the status names the firewall", 5*time.Second, func() error {
		status, err := n.status()
		if err == nil && !strings.Contains(strings.Join(status.Problems, "\n"), "chain f of the table inet fw") {
			err = fmt.Errorf("problems %q", status.Problems)
		}
		return err
	})
	m.loseTUN(n)
}

// lanEcho is one more host on the company's switch, whom nobody disturbs.
func (m *mesh) lanEcho() *lab.Space {
	s := m.Space("bystander")
	m.Wire(s, "in", m.lan, "bystander")
	m.lan.Sh("ip link set bystander master sw0")
	s.Sh("ip address add 10.20.0.99/24 dev in")
	return s
}
