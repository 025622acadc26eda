//go:build e2e

package netns

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// attackCanary stands in what must never reach the destination.
const attackCanary = "meshcrypt-attack-9c1e55d07b4f8a26"

const (
	attackRate = 2000 // a second: these attacks are judged, not weathered
	attackTime = 500 * time.Millisecond
	// strangersPort is where the attacker would be answered.
	strangersPort = 7777
)

// attacks is a mesh of two with a client and a transfer, and somebody on the
// wire beside it.
type attacks struct {
	*mesh
	wires  []lab.Wire // to each node
	beside *lab.Transfer
	seen   *lab.Watch      // what comes to the destination
	answer *lab.Collection // what anybody sends to the attacker
}

func newAttacks(t *testing.T) *attacks {
	m := newMesh(t, 2)
	m.up()
	a := &attacks{mesh: m}
	for _, n := range m.nodes {
		a.wires = append(a.wires, m.wan.Towards(n.Name, n.outer))
	}
	a.seen = m.dest.Watch("in", []byte(attackCanary))
	a.answer = m.wan.Collect("n1", strangersPort, 1000)
	return a
}

// TestHostilePackets: whoever stands on the outer network, or in a client's
// place, gets nothing through, and no answer; a transfer beside does not notice.
func TestHostilePackets(t *testing.T) {
	t.Parallel()
	a := newAttacks(t)
	taken := a.wan.Collect("client", 6484, floodReplays)
	a.connect("--slice-mode", "burst")
	a.slices(2)
	a.beside = a.transfer(lab.Plan{Pace: 50})
	a.Until("datagrams to replay", 20*time.Second, func() error {
		if n := len(taken.Datagrams()); n < floodReplays {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	for _, c := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"cleartext", a.cleartext},
		{"other-tunnels", a.otherTunnels},
		{"too-big", a.forgedTooBig},
		{"control-ports", a.controlPorts},
		{"replays-at-the-other-gateway", func(t *testing.T) { a.replayAt(t, 1, taken.Datagrams()) }},
		{"replays-from-elsewhere", func(t *testing.T) { a.replayElsewhere(t, taken.Datagrams()) }},
		{"replays-after-a-restart", func(t *testing.T) { a.replayAfterRestart(t, taken.Datagrams()) }},
	} {
		t.Run(c.name, c.run)
	}
	if r := a.beside.Finish(within(20 * time.Second)); r.Check() != nil {
		t.Error(r)
	} else {
		t.Log(r)
	}
	if seen, err := a.seen.End(); err != nil || len(seen.Canaries) > 0 {
		t.Errorf("at the destination: %v %v", seen.Canaries, err)
	}
	for _, d := range a.answer.Datagrams() {
		t.Errorf("the attacker was answered from %v with %d bytes", d.From, len(d.Payload))
	}
}

// throw sends frames to a node and gives how many.
func (a *attacks) throw(t *testing.T, node int, frames [][]byte) uint64 {
	t.Helper()
	f := a.wan.Flood(a.nodes[node].Name, frames, attackRate)
	time.Sleep(attackTime)
	sent, _, err := f.End()
	if err != nil || sent == 0 {
		t.Fatalf("%d frames sent: %v", sent, err)
	}
	time.Sleep(200 * time.Millisecond)
	return sent
}

// forged is a packet as the client's lease would send it to the destination.
func (a *attacks) forged() []byte {
	s, err := a.session()
	if err != nil || len(s.Leases) == 0 {
		a.Fatalf("%+v %v", s, err)
	}
	return lab.IPv4(unix.IPPROTO_UDP, s.Leases[0], netip.MustParseAddr(destination), lab.UDP(9, 9, []byte(attackCanary)))
}

func (a *attacks) attacker() netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("203.0.113.77"), strangersPort)
}

// cleartext is what should be sealed, to the port of what is, bare and behind
// the header of packets that nodes hand on.
func (a *attacks) cleartext(t *testing.T) {
	inner := a.forged()
	before := a.drops()
	var frames [][]byte
	for _, p := range [][]byte{
		inner, append(make([]byte, 16), inner...),
		dataplane.Marker{Type: dataplane.MarkerHandOn, Hops: 1, SPI: 0x00100001}.Append(nil, inner),
		dataplane.Marker{Type: dataplane.MarkerPathTest}.Append(nil, inner),
	} {
		for _, from := range []netip.AddrPort{a.attacker(), netip.MustParseAddrPort("192.0.2.2:6484"), netip.MustParseAddrPort(clientOuter + ":6484")} {
			frames = append(frames, a.wires[0].Datagram(from, a.target(6484), p))
		}
	}
	a.checkCounts(t, a.throw(t, 0, frames), before, unlost)
}

// otherTunnels are those that a kernel may open by itself.
func (a *attacks) otherTunnels(t *testing.T) {
	inner := a.forged()
	gre := append([]byte{0, 0, 8, 0}, inner...)
	var frames [][]byte
	for _, from := range []netip.Addr{a.attacker().Addr(), netip.MustParseAddr("192.0.2.2")} {
		to := a.target(0).Addr()
		frames = append(frames, a.wires[0].Frame(unix.IPPROTO_IPIP, from, to, inner),
			a.wires[0].Frame(unix.IPPROTO_GRE, from, to, gre), a.wires[0].Frame(unix.IPPROTO_IPV6, from, to, inner),
			a.wires[0].Frame(unix.IPPROTO_ESP, from, to, inner), a.wires[0].Frame(unix.IPPROTO_AH, from, to, inner))
	}
	// And the bare packet itself, from outside, for the node to forward.
	frames = append(frames, append(a.wires[0].Frame(0, from(inner), from(inner), nil)[:14:14], inner...))
	a.throw(t, 0, frames)
}

func from(packet []byte) netip.Addr { return netip.AddrFrom4([4]byte(packet[12:16])) }

// forgedTooBig says that a path carries 68 bytes, to the client and to the node.
func (a *attacks) forgedTooBig(t *testing.T) {
	client, node := netip.MustParseAddr(clientOuter), a.target(0).Addr()
	router := netip.MustParseAddr("192.0.2.254")
	up := lab.IPv4(unix.IPPROTO_UDP, client, node, lab.UDP(40000, 6484, nil))
	down := lab.IPv4(unix.IPPROTO_UDP, node, client, lab.UDP(6484, 40000, nil))
	a.throw(t, 0, [][]byte{a.wires[0].Frame(unix.IPPROTO_ICMP, router, node, lab.TooBig(down, 68))})
	wire := a.wan.Towards("client", clientOuter)
	f := a.wan.Flood("client", [][]byte{wire.Frame(unix.IPPROTO_ICMP, router, client, lab.TooBig(up, 68))}, attackRate)
	had := a.beside.Received()
	time.Sleep(attackTime)
	if _, _, err := f.End(); err != nil {
		t.Error(err)
	}
	if moved := a.beside.Received() - had; moved < 1_000_000 {
		t.Errorf("the transfer moved %d bytes while routers lied about the MTU", moved)
	}
}

// controlPorts is a client that speaks to the nodes' own ports from inside its
// tunnel, and to nobody in particular.
func (a *attacks) controlPorts(t *testing.T) {
	inner := a.forged()
	handed := dataplane.Marker{Type: dataplane.MarkerHandOn, Hops: 1, SPI: 0x00100001}.Append(nil, inner)
	err := a.client.Do(func() error {
		for _, to := range []string{"10.20.0.1:6486", "10.20.0.2:6486", "10.20.0.1:6484", "10.20.0.2:6485", "10.20.0.255:9", "10.20.0.201:6486"} {
			conn, err := net.Dial("udp", to)
			if err != nil {
				return err
			}
			for range 50 {
				_, _ = conn.Write(handed) // a refusal by ICMP is fine
			}
			conn.Close()
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	time.Sleep(200 * time.Millisecond)
}

// replayAt sends what the client sent to a node through another gateway.
func (a *attacks) replayAt(t *testing.T, node int, taken []lab.Datagram) {
	before := a.drops()
	to := netip.AddrPortFrom(netip.MustParseAddr(a.nodes[node].outer), 6484)
	var frames [][]byte
	for _, d := range taken {
		frames = append(frames, a.wires[node].Datagram(d.From, to, d.Payload))
	}
	a.checkCounts(t, a.throw(t, node, frames), before, unlost)
}

// replayElsewhere replays as the attacker himself: nothing is answered to him.
func (a *attacks) replayElsewhere(t *testing.T, taken []lab.Datagram) {
	before := a.drops()
	var frames [][]byte
	for _, d := range taken {
		frames = append(frames, a.wires[0].Datagram(a.attacker(), d.To, d.Payload))
	}
	a.checkCounts(t, a.throw(t, 0, frames), before, unlost)
}

// replayAfterRestart: an agent that starts anew knows no key of before.
func (a *attacks) replayAfterRestart(t *testing.T, taken []lab.Datagram) {
	n := a.nodes[1]
	n.process.Kill()
	n.start("run")
	a.ready(2)
	a.Until("the transfer goes on", 20*time.Second, func() error {
		if a.beside.Stall() > time.Second {
			return fmt.Errorf("%v", a.beside.Stall())
		}
		return nil
	})
	a.Until("nobody speaks to the dead boot any more", 20*time.Second, func() error {
		before := a.drops()[dataplane.DropUnknownSPI.String()]
		time.Sleep(300 * time.Millisecond)
		if more := a.drops()[dataplane.DropUnknownSPI.String()] - before; more > 0 {
			return fmt.Errorf("%d packets", more)
		}
		return nil
	})
	a.replayAt(t, 1, taken)
	if text := n.process.Tail(50); strings.Contains(text, "panic") {
		t.Error(text)
	}
}
