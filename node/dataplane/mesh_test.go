package dataplane_test

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	. "github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

func upstream() stream {
	return stream{"10.99.0.5:4000", "10.0.0.80:80", 1000, Pattern(1_000_000)}
}

func downstream() stream {
	return stream{"10.0.0.80:80", "10.99.0.5:4000", 5000, Pattern(1_000_000)}
}

// TestOneAgentBehindAGateway carries a stream each way: client, gateway 1,
// agent and egress 2.
func TestOneAgentBehindAGateway(t *testing.T) {
	w := newWorld(t, 2, 2)
	w.nodes[2].routes[lease()] = w.route([]int{2}, 2)
	w.start()
	up, down := upstream(), downstream()
	up.inject(t, w.client.device)
	packets := up.collect(t, w.nodes[2].device)
	if packets > 50 { // 770 segments
		t.Errorf("%d packets written: super-packets are not kept whole", packets)
	}
	w.known(2)
	down.inject(t, w.nodes[2].device)
	down.collect(t, w.client.device)
	w.stop()
	s := w.nodes[1].gateway.Stats()
	if s.Rows != 1 || s.Confirmed != 1 || s.Ports != 1 || s.Forwarded == 0 || s.Answered == 0 {
		t.Errorf("gateway: %+v", s)
	}
	if s := w.nodes[1].engine.Stats(); s.Delivered[PortForward] != w.nodes[1].gateway.Stats().Forwarded {
		t.Errorf("gateway's engine: %+v", s)
	}
	c := w.pairs[2][1].Counters()
	if c.PacketsIn != 783 || c.PacketsOut != 783 || c.BytesIn != c.BytesOut {
		t.Errorf("pair: %+v", c)
	}
}

// TestTwoAgentsWithHandOn: node 2 is egress and agent, node 3 agent. Upwards
// node 3 hands on to the egress, downwards the egress hands on to node 3.
func TestTwoAgentsWithHandOn(t *testing.T) { carryByTwoAgents(t, newWorld(t, 3, 2, 3)) }

// TestTwoAgentsWithSealedHandOn is the same with an SA between the two; neither takes
// anything from the other in clear.
func TestTwoAgentsWithSealedHandOn(t *testing.T) {
	w := newWorld(t, 3, 2, 3)
	w.link(2, 3)
	carryByTwoAgents(t, w)
}

func carryByTwoAgents(t *testing.T, w *world) {
	t.Helper()
	route := w.route([]int{2, 3}, 2)
	onward := &Onward{SPI: spiOf(3, 7), Path: to(at(inside(2))), Socket: w.nodes[3].inside}
	if sealed := w.nodes[2].table.Sealed; sealed {
		route.Slices[1].Sealed, route.Slices[1].Link = sealed, w.nodes[2].table.Links[spiOf(2, 900)]
		onward.Sealed, onward.Link = sealed, w.nodes[3].table.Links[spiOf(3, 900)]
	}
	w.nodes[2].routes[lease()] = route
	w.pairs[3][1].SetOnward(false, onward)
	w.start()
	up, down := upstream(), downstream()
	up.inject(t, w.client.device)
	up.collect(t, w.nodes[2].device)
	w.known(2, 3)
	down.inject(t, w.nodes[2].device)
	down.collect(t, w.client.device)
	w.stop()
	a, b := w.pairs[2][1].Counters(), w.pairs[3][1].Counters()
	for _, share := range [][2]uint64{{a.BytesIn, b.BytesIn}, {a.BytesOut, b.BytesOut}} {
		if share[0] == 0 || share[1] == 0 || share[0] > 2*share[1] || share[1] > 2*share[0] {
			t.Errorf("shares %v", share)
		}
	}
	s := w.nodes[3].engine.Stats()
	if s.Delivered[PortInside] != b.PacketsIn || s.Received[PortInside] != b.PacketsOut {
		t.Errorf("agent without TUN traffic: %+v", s)
	}
	if s.Delivered[PortTUN] != 0 || s.Received[PortTUN] != 0 {
		t.Errorf("agent used its TUN: %+v", s)
	}
}

// TestRoutedAgentsWriteThemselves: without Onward each agent uses its own TUN.
func TestRoutedAgentsWriteThemselves(t *testing.T) {
	w := newWorld(t, 3, 2, 3)
	w.start()
	up := upstream()
	up.inject(t, w.client.device)
	up.collect(t, w.nodes[2].device, w.nodes[3].device)
	w.stop()
}

// TestStalledAgentHarmsNoOther: agent 3 stops receiving; what agent 2 carries
// and counts is the same as with agent 3 alive (figures 13 and 14).
func TestStalledAgentHarmsNoOther(t *testing.T) {
	run := func(stall bool) (Stats, PairCounters) {
		w := newWorld(t, 3, 2, 3)
		if stall {
			w.network.Partition(outer(1), outer(3))
		}
		w.start()
		up := upstream()
		up.inject(t, w.client.device)
		drain(w)
		w.known(2) // the echo is counted too
		w.stop()
		return w.nodes[2].engine.Stats(), w.pairs[2][1].Counters()
	}
	s1, c1 := run(false)
	s2, c2 := run(true)
	if s1 != s2 || c1 != c2 {
		t.Errorf("stalling agent 3 changed agent 2:\n%+v %+v\n%+v %+v", s1, c1, s2, c2)
	}
	if c1.BytesIn == 0 {
		t.Error("agent 2 carried nothing: nothing tested")
	}
}

// drain waits until agent 2 has written all that the client sent to it.
func drain(w *world) {
	w.wait(func() bool {
		sent := w.pairs[2][0].Counters().PacketsOut
		got := w.nodes[2].engine.Stats().Delivered[PortTUN]
		return w.client.device.Waiting() == 0 && sent > 0 && sent == got && idle(w.client)
	})
}

// idle reports whether a host's engine holds no packet.
func idle(h *host) bool {
	s := h.engine.Stats()
	return s.Received[PortTUN] == 783 && s.Balance() == 0
}

// TestSourceIsTheLease holds I7 after every open, and after every hand-on.
func TestSourceIsTheLease(t *testing.T) {
	w := newWorld(t, 3, 2, 3)
	w.nodes[2].routes[lease()] = w.route([]int{2, 3}, 2)
	w.nodes[2].routes[lease()].Upward = []uint32{spiOf(3, 9)} // granted, not up yet
	other := netip.MustParseAddr("10.99.0.6")
	// A client that seals what it likes.
	for _, p := range w.pairs {
		p[0].Leases = append(p[0].Leases, other)
	}
	w.start()
	forged := stream{"10.99.0.6:4000", "10.0.0.80:80", 1, Pattern(1300)}
	forged.inject(t, w.client.device)
	// An agent that hands on what it likes: another source, another's SPI.
	good := NewTCP("10.99.0.5:1", "10.0.0.80:80", 1, Pattern(9)).Bytes()
	bad := NewTCP("10.99.0.6:1", "10.0.0.80:80", 1, Pattern(9)).Bytes()
	hand := func(spi uint32, hops uint8, packet []byte) {
		d := Marker{Type: MarkerHandOn, Hops: hops, SPI: spi}.Append(nil, packet)
		if err := w.nodes[3].inside.Send(d, len(d), to(at(inside(2)))); err != nil {
			t.Fatal(err)
		}
	}
	hand(spiOf(3, 7), 1, bad)
	hand(spiOf(3, 8), 1, good)
	hand(spiOf(3, 7), 2, good)
	hand(spiOf(2, 7), 1, good) // downwards, but its destination is no lease
	for _, spi := range []uint32{spiOf(3, 7), spiOf(3, 9)} {
		hand(spi, 1, good)
		if p, ok := w.nodes[2].device.Wait(); !ok || !Sound(p.Data) || len(p.Data) != len(good) {
			t.Error("the good packet did not come through")
		}
	}
	w.wait(func() bool {
		return w.nodes[2].engine.Stats().Dropped[DropSource]+w.nodes[3].engine.Stats().Dropped[DropSource] == 3
	})
	w.stop()
	s := w.nodes[2].engine.Stats()
	if s.Dropped[DropHops] != 1 || s.Dropped[DropDestination] != 1 || s.Delivered[PortTUN] != 2 {
		t.Errorf("egress: %+v", s)
	}
}

// TestAgentFollowsTheClient: the path at an agent is the source of the packet
// that last moved the window, so a new gateway needs no word.
func TestAgentFollowsTheClient(t *testing.T) {
	w := newWorld(t, 3, 2)
	w.nodes[2].routes[lease()] = w.route([]int{2}, 2)
	w.start()
	one := stream{"10.99.0.5:4000", "10.0.0.80:80", 1, Pattern(100)}
	one.inject(t, w.client.device)
	one.collect(t, w.nodes[2].device)
	w.known(2)
	first, _ := w.pairs[2][1].Path()
	w.pairs[2][0].SetPath(to(at(outer(3))))
	one.inject(t, w.client.device)
	one.collect(t, w.nodes[2].device)
	w.wait(func() bool { path, _ := w.pairs[2][1].Path(); return path != first })
	second, _ := w.pairs[2][1].Path()
	if first.Remote.Addr() != outer(1) || second.Remote.Addr() != outer(3) {
		t.Errorf("path %v, then %v", first.Remote, second.Remote)
	}
	down := downstream()
	down.inject(t, w.nodes[2].device)
	down.collect(t, w.client.device)
	w.stop()
}

// TestControlInsideAnSA: probes go as dummies and come to the owner's ear;
// what a gateway sees of them is ESP.
func TestControlInsideAnSA(t *testing.T) {
	w := newWorld(t, 2, 2)
	heard := make(chan string, 2)
	agent := w.pairs[2][1]
	agent.Control = func(b []byte) {
		heard <- string(b)
		if err := agent.SendControl([]byte("reply")); err != nil {
			t.Error(err)
		}
	}
	w.pairs[2][0].Control = func(b []byte) {
		if b[0] != probe.KindSeen { // see TestOwnerHearsThatItIsAskedWhereItIs
			heard <- string(b)
		}
	}
	w.start()
	if err := agent.SendControl([]byte("early")); err != ErrNoPath {
		t.Errorf("without a path: %v", err)
	}
	if err := agent.SendControl(make([]byte, MaxControl+1)); err != ErrTooLong {
		t.Errorf("beyond the limit: %v", err)
	}
	if err := w.pairs[2][0].SendControl([]byte("probe")); err != nil {
		t.Fatal(err)
	}
	if a, b := <-heard, <-heard; a != "probe" || b != "reply" {
		t.Errorf("heard %q, then %q", a, b)
	}
	if w.pairs[2][0].LastHeard() == 0 {
		t.Error("an authenticated dummy is no sign of life")
	}
	if err := w.pairs[2][0].SendControl(make([]byte, MaxControl)); err != nil {
		t.Errorf("of the limit: %v", err)
	}
	if a, b := <-heard, <-heard; len(a) != MaxControl || b != "reply" {
		t.Errorf("heard %d bytes, then %q", len(a), b)
	}
	w.stop()
}

// TestTraceIsTheAutomaton: every packet goes init, receive, decide, then send
// or discard, and ends.
func TestTraceIsTheAutomaton(t *testing.T) {
	w := newWorld(t, 3, 2, 3)
	var mu sync.Mutex
	seen := map[uint64][]Action{}
	w.trace = func(id uint64, a Action) {
		mu.Lock()
		defer mu.Unlock()
		seen[id] = append(seen[id], a)
		if len(seen[id]) != int(min(a, ActionSend)) {
			t.Errorf("packet %x: %v", id, seen[id])
		}
	}
	w.start()
	up := upstream()
	up.inject(t, w.client.device)
	up.collect(t, w.nodes[2].device, w.nodes[3].device)
	junk := make([]byte, 80)
	junk[0] = 9
	s := w.listen(netip.MustParseAddrPort("198.51.100.9:9"))
	if err := s.Send(junk, 40, link.Path{Remote: at(outer(2))}); err != nil {
		t.Fatal(err)
	}
	w.stop()
	sent := 0
	for id, actions := range seen {
		switch last := actions[len(actions)-1]; last {
		case ActionSend:
			sent++
		case ActionDiscard:
		default:
			t.Errorf("packet %x ended in %v", id, last)
		}
	}
	if sent == 0 {
		t.Error("no packet was traced to its sending")
	}
}
