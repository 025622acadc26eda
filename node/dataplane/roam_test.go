package dataplane_test

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	. "github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
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
	w.prove(home)
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

// TestCapturedPacketFromNearby: through a gateway, or from the own prefix, too.
func TestCapturedPacketFromNearby(t *testing.T) {
	for name, c := range map[string]struct {
		from netip.AddrPort
		to   netip.AddrPort
	}{
		"through a gateway": {netip.MustParseAddrPort("203.0.113.66:999"), at(outer(1))},
		"own prefix":        {netip.MustParseAddrPort("198.51.100.66:999"), at(outer(2))},
		"own address":       {netip.AddrPortFrom(home.Addr(), 999), at(outer(2))},
	} {
		t.Run(name, func(t *testing.T) {
			w, atAgent := direct(t)
			thief := w.listen(c.from)
			packet := w.capture()
			if err := thief.Send(packet, len(packet), to(c.to)); err != nil {
				t.Fatal(err)
			}
			w.token(thief)
			if got := atAgent(); got != home {
				t.Errorf("replies go to %v", got)
			}
			w.stop()
		})
	}
}

// token is that of the next question which comes to a socket.
func (w *world) token(at link.Socket) probe.Token {
	w.t.Helper()
	b := make([]byte, link.MaxTrain)
	train, err := at.Receive(b)
	if err != nil {
		w.t.Fatal(err)
	}
	payload, _, _, err := w.pairs[2][0].In.Open(b[:train.Segment])
	if err != nil || payload[0] != probe.KindSeen || train.Len > 3*36 {
		w.t.Fatalf("%x, %d bytes, %v: no question", payload, train.Len, err)
	}
	return probe.Token(payload[1:])
}

// echo sends the echo of a token in the client's name, straight to the agent.
func (w *world) echo(from link.Socket, token probe.Token) {
	w.t.Helper()
	client := w.pairs[2][0]
	was, _ := client.Path()
	echo, _ := probe.EchoSeen(probe.Seen(token))
	client.SetWay(from, to(at(outer(2))))
	if err := client.SendControl(echo); err != nil {
		w.t.Fatal(err)
	}
	client.SetPath(was)
}

// TestOwnerHearsThatItIsAskedWhereItIs: a client's, for it comes by another way than its
// agent knows; the engine answers all the same. An agent's owner hears of no question.
func TestOwnerHearsThatItIsAskedWhereItIs(t *testing.T) {
	w := newWorld(t, 2, 2)
	client, agent := w.pairs[2][0], w.pairs[2][1]
	client.SetPath(to(at(outer(2))))
	var asked, other atomic.Int64
	client.Control = func(b []byte) {
		if b[0] == probe.KindSeen {
			asked.Add(1)
		}
	}
	agent.Control = func(b []byte) {
		if b[0] == probe.KindSeen || b[0] == probe.KindSeenEcho {
			other.Add(1)
		}
	}
	w.start()
	w.say()
	w.prove(home)
	w.wait(func() bool { return asked.Load() > 0 })
	if err := client.SendControl(probe.Seen(probe.Token{1})); err != nil {
		t.Fatal(err)
	}
	w.settled()
	w.stop()
	if n := other.Load(); n != 0 {
		t.Errorf("the agent's owner hears of %d", n)
	}
}

// TestEchoThatNobodyAskedFor: a client's own echo, with the source of somebody else,
// moves nothing, whatever is in it: his address, as builds before had it, nothing,
// or the token of a question that went elsewhere.
func TestEchoThatNobodyAskedFor(t *testing.T) {
	w, atAgent := direct(t)
	other := w.listen(netip.MustParseAddrPort("203.0.113.5:7"))
	victim := w.listen(netip.MustParseAddrPort("203.0.113.66:999"))
	w.echo(other, probe.Token{}) // asked there
	elsewhere := w.token(other)
	address := victim.LocalAddr().Addr().As16()
	for name, token := range map[string]probe.Token{
		"his address": probe.Token(binary.BigEndian.AppendUint16(address[:], 999)), "nothing": {}, "of another way": elsewhere,
	} {
		w.echo(victim, token)
		w.settled()
		if got := atAgent(); got != home {
			t.Errorf("%s: replies go to %v", name, got)
		}
	}
	neighbour := w.listen(netip.AddrPortFrom(other.LocalAddr().Addr(), 8))
	for name, from := range map[string]link.Socket{
		"who relays the question to the client": w.pairs[2][0].Socket, "another port of that address": neighbour,
	} {
		w.echo(from, elsewhere)
		w.settled()
		if got := atAgent(); got != home {
			t.Errorf("%s: replies go to %v", name, got)
		}
	}
	w.echo(other, elsewhere)
	w.wait(func() bool { return atAgent() == other.LocalAddr() })
	w.stop()
}

// settled waits until the agent has handled all that was sent to it: it drops one
// byte after everything else.
func (w *world) settled() {
	w.t.Helper()
	before := w.nodes[2].engine.Stats().Dropped[DropShort]
	if err := w.pairs[2][0].Socket.Send([]byte{1}, 1, to(at(outer(2)))); err != nil {
		w.t.Fatal(err)
	}
	w.wait(func() bool { return w.nodes[2].engine.Stats().Dropped[DropShort] > before })
}

// TestPathFollowsTheNewest: a packet that is not the newest moves nothing, also
// from where the client has been.
func TestPathFollowsTheNewest(t *testing.T) {
	w, atAgent := direct(t)
	client := w.pairs[2][0]
	late := w.capture()
	other := w.listen(netip.MustParseAddrPort("203.0.113.5:7"))
	w.echo(other, probe.Token{})
	echo := w.token(other)
	w.echo(other, echo)
	w.wait(func() bool { return atAgent() == other.LocalAddr() })
	if err := client.Socket.Send(late, len(late), to(at(outer(2)))); err != nil {
		t.Fatal(err)
	}
	w.settled()
	if got := atAgent(); got != other.LocalAddr() {
		t.Errorf("an old packet moved it to %v", got)
	}
	w.say() // the newest one, from where it was proven lately
	w.wait(func() bool { return atAgent() == home })
	w.stop()
}

// TestLateEchoMovesNothing: it proves its way, and the next newest packet moves.
func TestLateEchoMovesNothing(t *testing.T) {
	w, atAgent := direct(t)
	other := w.listen(netip.MustParseAddrPort("203.0.113.5:7"))
	w.echo(other, probe.Token{})
	token := w.token(other)
	var late []byte
	w.network.Tap(func(d linktest.Datagram) {
		if d.From == other.LocalAddr() && late == nil {
			late = append([]byte(nil), d.Payload...)
		}
	})
	w.network.PartitionWay(other.LocalAddr().Addr(), outer(2))
	w.echo(other, token)
	w.network.Heal(other.LocalAddr().Addr(), outer(2))
	w.say()
	if err := other.Send(late, len(late), to(at(outer(2)))); err != nil {
		t.Fatal(err)
	}
	w.settled()
	if got := atAgent(); got != home {
		t.Errorf("a late echo moved it to %v", got)
	}
	w.echo(other, probe.Token{}) // the newest
	w.wait(func() bool { return atAgent() == other.LocalAddr() })
	w.stop()
}

// prove waits until the agent's way is one that the client has proven.
func (w *world) prove(at netip.AddrPort) {
	w.t.Helper()
	w.wait(func() bool { return w.pairs[2][1].Proven(at) })
}

// TestUnprovenGetsThreeTimes: to an address that has not shown that somebody is
// there, no more goes than AmplificationMost times what came from it; the rest is
// dropped by name.
func TestUnprovenGetsThreeTimes(t *testing.T) {
	w := newWorld(t, 2, 2)
	victim := w.listen(netip.MustParseAddrPort("203.0.113.66:999"))
	client, agent := w.pairs[2][0], w.pairs[2][1]
	client.SetWay(victim, to(at(outer(2))))
	w.nodes[2].routes[lease()] = w.route([]int{2}, 2)
	var there, back atomic.Int64
	w.network.Tap(func(d linktest.Datagram) {
		switch victim.LocalAddr() {
		case d.From:
			there.Add(int64(len(d.Payload)))
		case d.To:
			back.Add(int64(len(d.Payload)))
		}
	})
	w.start()
	for range 5 {
		w.say()
		_ = client.SendControl(probe.Seen(probe.Token{1})) // a question counts once, too
	}
	w.settled()
	if path, _ := agent.Path(); path.Remote != victim.LocalAddr() {
		t.Fatalf("replies go to %v", path.Remote)
	}
	down := stream{src: "10.20.0.9:80", dst: netip.AddrPortFrom(lease(), 5000).String(), data: make([]byte, 100_000)}
	down.inject(t, w.nodes[2].device)
	for range 50 {
		_ = agent.SendControl(make([]byte, 1000))
	}
	w.wait(func() bool { return w.nodes[2].engine.Stats().Dropped[DropUnproven] > 70 })
	if there, back := there.Load(), back.Load(); back > AmplificationMost*there || back == 0 {
		t.Errorf("%d bytes came, %d went", there, back)
	}
	w.stop()
}

// TestMaxWays: a client of very many ways is asked along a few of them, and stays
// where it was; after a while along one more (I10).
func TestMaxWays(t *testing.T) {
	w, atAgent := direct(t)
	asked := map[netip.AddrPort]bool{}
	var mu sync.Mutex
	w.network.Tap(func(d linktest.Datagram) {
		mu.Lock()
		defer mu.Unlock()
		if d.From == at(outer(2)) && d.To != home {
			asked[d.To] = true
		}
	})
	for n := range 5 * MaxWays {
		w.echo(w.listen(netip.AddrPortFrom(home.Addr(), uint16(1000+n))), probe.Token{})
	}
	w.settled()
	mu.Lock()
	defer mu.Unlock()
	if len(asked) != MaxWays-1 { // home was the first of them
		t.Errorf("asked along %d ways, want %d", len(asked), MaxWays-1)
	}
	if got := atAgent(); got != home {
		t.Errorf("replies go to %v", got)
	}
	w.stop()
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
	if err := client.Try(to(at(outer(1))), 1); err != nil || client.Tried(at(outer(1))) != 0 {
		t.Errorf("blocked: %v, answered at %d", err, client.Tried(at(outer(1))))
	}
	w.network.Heal(home.Addr(), outer(2))
	if err := client.Try(to(at(outer(1))), 1); err != nil {
		t.Fatal(err)
	}
	w.wait(func() bool { return client.Tried(at(outer(1))) != 0 })
	if path, _ := agent.Path(); path.Remote != stream.LocalAddr() {
		t.Errorf("the agent moved to %v", path.Remote)
	}
	w.stop()
}
