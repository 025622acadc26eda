package dataplane_test

import (
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
)

// direct is a client that sends to its agent itself, and an idle session: no
// packet comes but those of the test.
func direct(t *testing.T) (w *world, atAgent func() netip.AddrPort) {
	w = newWorld(t, 2, 2)
	w.pairs[2][0].SetPath(to(at(outer(2))))
	w.start()
	agent := w.pairs[2][1]
	atAgent = func() netip.AddrPort {
		path, _ := agent.Path()
		return path.Remote
	}
	w.say()
	w.wait(func() bool { return atAgent() == home })
	return w, atAgent
}

var home = netip.MustParseAddrPort("198.51.100.7:40000")

// say sends one packet of the client's that carries nothing.
func (w *world) say() {
	w.t.Helper()
	if err := w.pairs[2][0].SendControl([]byte("x")); err != nil {
		w.t.Fatal(err)
	}
}

// capture takes the client's next packet away before it arrives.
func (w *world) capture() (packet []byte) {
	w.t.Helper()
	w.network.Tap(func(d linktest.Datagram) {
		if d.From == home && packet == nil {
			packet = append([]byte(nil), d.Payload...)
		}
	})
	for ix := range w.nodes {
		w.network.PartitionWay(home.Addr(), outer(ix))
	}
	w.say()
	for ix := range w.nodes {
		w.network.Heal(home.Addr(), outer(ix))
	}
	if packet == nil {
		w.t.Fatal("nothing was sent")
	}
	return packet
}

// TestCapturedPacketFromAfar: who sends a captured packet from another network
// gets a challenge and no more.
func TestCapturedPacketFromAfar(t *testing.T) {
	w, atAgent := direct(t)
	thief := w.listen(netip.MustParseAddrPort("203.0.113.66:999"))
	packet := w.capture()
	if err := thief.Send(packet, len(packet), to(at(outer(2)))); err != nil {
		t.Fatal(err)
	}
	train, err := thief.Receive(make([]byte, link.MaxTrain))
	if err != nil || train.Segment > 64 {
		t.Errorf("the challenge: %+v, %v", train, err)
	}
	if got := atAgent(); got != home {
		t.Errorf("replies go to %v", got)
	}
	w.stop()
}

// TestCapturedPacketFromNearby: through a gateway or from the own prefix the
// replies follow it, and are back as soon as the client has said where it is.
func TestCapturedPacketFromNearby(t *testing.T) {
	for name, c := range map[string]struct {
		from netip.AddrPort
		to   netip.AddrPort
	}{
		"through a gateway": {netip.MustParseAddrPort("203.0.113.66:999"), at(outer(1))},
		"own prefix":        {netip.MustParseAddrPort("198.51.100.66:999"), at(outer(2))},
	} {
		t.Run(name, func(t *testing.T) {
			w, atAgent := direct(t)
			before := w.pairs[2][0].LastHeard()
			packet := w.capture()
			stolen := make(chan struct{})
			w.network.Tap(func(d linktest.Datagram) {
				if d.From == at(outer(2)) && d.To == home { // the agent asks at the old address
					close(stolen)
				}
			})
			if err := w.listen(c.from).Send(packet, len(packet), to(c.to)); err != nil {
				t.Fatal(err)
			}
			<-stolen
			w.wait(func() bool { return atAgent() == home && w.pairs[2][0].LastHeard() >= before })
			w.stop()
		})
	}
}

// TestClientInAnotherNetwork: one packet from there is enough.
func TestClientInAnotherNetwork(t *testing.T) {
	w, atAgent := direct(t)
	away := netip.MustParseAddrPort("203.0.113.5:7")
	socket := w.listen(away)
	if err := w.client.engine.Attach(socket); err != nil {
		t.Fatal(err)
	}
	w.pairs[2][0].SetWay(socket, to(at(outer(2))))
	w.say()
	w.wait(func() bool { return atAgent() == away })
	w.stop()
}

// TestTry: an agent that is asked along another path answers along it, and
// stays with the one in use.
func TestTry(t *testing.T) {
	w := newWorld(t, 2, 2)
	client, agent := w.pairs[2][0], w.pairs[2][1]
	stream := w.listen(netip.MustParseAddrPort("198.51.100.7:9"))
	client.SetWay(stream, to(at(outer(2))))
	w.start()
	if err := w.client.engine.Attach(stream); err != nil {
		t.Fatal(err)
	}
	w.say()
	w.wait(func() bool { path, _ := agent.Path(); return path.Remote == stream.LocalAddr() })
	w.network.PartitionWay(home.Addr(), outer(2))
	if err := client.Try(to(at(outer(1)))); err != nil || client.Tried(at(outer(1))) != 0 {
		t.Errorf("blocked: %v, answered at %d", err, client.Tried(at(outer(1))))
	}
	w.network.Heal(home.Addr(), outer(2))
	if err := client.Try(to(at(outer(1)))); err != nil {
		t.Fatal(err)
	}
	w.wait(func() bool { return client.Tried(at(outer(1))) != 0 })
	if path, _ := agent.Path(); path.Remote != stream.LocalAddr() {
		t.Errorf("the agent moved to %v", path.Remote)
	}
	w.stop()
}
