package client

import (
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// reachable is a slice whose agent has an outer address of its own.
type reachable struct {
	*slice
	f     *fixture
	own   netip.AddrPort
	agent *linktest.Socket
}

// reachable gives the client a slice that may go directly.
func (f *fixture) reachable(number uint8) reachable {
	f.Helper()
	r := reachable{slice: f.slice(number, 1), f: f, own: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 100 + number}), 6484)}
	var err error
	r.agent, err = f.sim.Listen(r.own)
	f.ok(err)
	r.direct.ways = []netip.AddrPort{r.own}
	return r
}

// questions are the ones of Try that came to a socket.
func (r reachable) plainProbes(at *linktest.Socket) (echoes [][]byte) {
	buffer := make([]byte, link.MaxTrain)
	for {
		t, ok := at.TryReceive(buffer)
		if !ok {
			return echoes
		}
		if spi, _ := esp.ParseSPI(buffer[:t.Len]); spi != r.grant.SPI {
			continue
		}
		body, _, _, err := r.f.far[r.key].In.Open(append([]byte(nil), buffer[:t.Len]...))
		r.f.ok(err)
		if echo, ok := probe.EchoSeen(body); ok {
			echoes = append(echoes, echo)
		}
	}
}

// echo is the agent's answer to a question out of one of the world's sockets.
func (r reachable) echo(from *linktest.Socket, echo []byte) {
	r.f.Helper()
	far := r.f.far[r.key]
	far.SetWay(from, link.Path{Remote: r.socket.LocalAddr()})
	before := r.pair.Counters()
	now := r.f.clock.Add(1)
	r.f.ok(far.SendControl(echo))
	r.f.until("the answer is heard", func() bool { return r.pair.LastHeard() == now })
	if after := r.pair.Counters(); after != before {
		r.f.Errorf("an answer counted as data: %+v", after)
	}
}

// open lets the agent answer along the direct way until the slice takes it.
func (r reachable) open() reachable {
	r.f.Helper()
	r.f.tick()
	asked := r.plainProbes(r.agent)
	if len(asked) != 1 {
		r.f.Fatalf("the agent was asked %d times", len(asked))
	}
	before := r.pair.Tried(r.own)
	r.echo(r.agent, asked[0])
	r.f.until("the answer counts", func() bool { return r.pair.Tried(r.own) != before })
	r.f.clock.Add(1)
	r.f.tick()
	if r.direct.way != r.own || r.through() != r.own {
		r.f.Fatalf("through %v, direct %v", r.through(), r.direct.way)
	}
	return r
}

func (r reachable) through() netip.AddrPort {
	path, _ := r.pair.Path()
	return path.Remote
}

// TestDirectWay is taken once the agent has answered along it, by this slice alone.
func TestDirectWay(t *testing.T) {
	f := newFixture(t)
	f.connect()
	r, other := f.reachable(0), f.slice(1, 1)
	if r.open(); r.pulse.waiting == 0 || !r.pulse.trial {
		t.Error("the agent does not hear of the new way at once")
	}
	if path, _ := other.pair.Path(); path.Remote != gatewayAddr(0) {
		t.Errorf("the other slice goes to %v", path.Remote)
	}
	f.Client.gateways.use(gatewayAddr(1))
	f.moveTo(gatewayAddr(1), f.config.Now())
	if path, _ := other.pair.Path(); path.Remote != gatewayAddr(1) || r.through() != r.own {
		t.Errorf("with another gateway: %v and %v", path.Remote, r.through())
	}
}

// TestAnswerThroughTheGateway says nothing of the direct way, though it names it.
func TestAnswerThroughTheGateway(t *testing.T) {
	f := newFixture(t)
	f.connect()
	r := f.reachable(0)
	f.tick()
	asked := r.plainProbes(f.gateways[0])
	if len(asked) != 1 {
		t.Fatalf("the way in use was asked %d times", len(asked))
	}
	r.echo(f.gateways[0], asked[0])
	f.advance(TickEvery, r.slice)
	if r.direct.inUse() || r.pair.Tried(r.own) != 0 {
		t.Error("the slice goes directly")
	}
}

// TestDirectWayIsAskedForRarely where nobody answers, and not at all where the
// mesh does not offer it.
func TestDirectWayIsAskedForRarely(t *testing.T) {
	f := newFixture(t)
	f.connect()
	r, plain := f.reachable(0), f.slice(1, 1)
	var last time.Duration
	for range 12 {
		f.clock.Add(int64(r.direct.wait))
		f.superviseDirect(f.config.Now())
		if n := len(r.plainProbes(r.agent)); n != 1 || r.direct.wait < last {
			t.Errorf("asked %d times, then after %v, before after %v", n, r.direct.wait, last)
		}
		last = r.direct.wait
		f.superviseDirect(f.config.Now())
	}
	if n := len(r.plainProbes(r.agent)); last != AskDirectMax || n != 0 {
		t.Errorf("waits up to %v, %d questions too many", last, n)
	}
	if plain.direct.askedAt != 0 {
		t.Error("the other agent was asked too")
	}
}

// TestDirectOffer: the ways are those that the arbiter signed, and only if it says
// that they are the agent's own.
func TestDirectOffer(t *testing.T) {
	f := newFixture(t)
	f.connect()
	for number, direct := range []bool{false, true} {
		o := f.offer(uint8(number), 1, nil).offer
		o.Direct = direct
		f.takeOffer(&o)
		if ways := f.slices[sliceKey{uint8(number), 1}].direct.ways; len(ways) > 0 != direct {
			t.Errorf("direct %v: ways %v", direct, ways)
		}
	}
}

// TestDirectWayInTurns: an agent of both families is asked at either address.
func TestDirectWayInTurns(t *testing.T) {
	six := netip.MustParseAddrPort("[2001:db8::1]:6484")
	d := direct{ways: []netip.AddrPort{gatewayAddr(0), six}}
	var asked []netip.AddrPort
	for range 3 {
		d.asked = d.next()
		asked = append(asked, d.asked)
	}
	if asked[0] != gatewayAddr(0) || asked[1] != six || asked[2] != gatewayAddr(0) {
		t.Errorf("asked %v", asked)
	}
}

// TestSilentDirectWay brings the slice back to the common gateway; it is not
// condemned, and the way is asked for later, ever later if it does not last.
func TestSilentDirectWay(t *testing.T) {
	f := newFixture(t)
	f.connect()
	r, sibling := f.reachable(0), f.slice(1, 1)
	r.open()
	f.advance(400*ms, sibling)
	if r.through() != gatewayAddr(0) || r.condemned || r.direct.wait != 2*AskDirectMin {
		t.Fatalf("through %v, condemned %v, asked again after %v", r.through(), r.condemned, r.direct.wait)
	}
	if f.routed() != `["1.1"]` {
		t.Errorf("carrying: %s", f.routed())
	}
	r.f.far[r.key].SetWay(f.gateways[0], link.Path{Remote: r.socket.LocalAddr()})
	f.advance(400*ms, r.slice, sibling)
	if r.condemned || len(silences(f.said())) != 0 {
		t.Error("a slice that is heard through the gateway was condemned")
	}
}

// TestDeadDirectAgent: back at the common gateway, where nobody else is, a slice
// is condemned only if a direct sibling has an answer through that gateway; if
// not, the gateway is left.
func TestDeadDirectAgent(t *testing.T) {
	for name, alive := range map[string]bool{"the gateway lives": true, "the gateway is dead": false} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.connect()
			dead, living := f.reachable(0).open(), f.reachable(1).open()
			f.advance(350*ms, living.slice)
			if dead.direct.inUse() || dead.condemned {
				t.Fatalf("direct %v, condemned %v", dead.direct.inUse(), dead.condemned)
			}
			for range 8 { // 400 ms
				f.advance(TickEvery, living.slice)
				for _, echo := range living.plainProbes(f.gateways[0]) {
					if alive {
						living.echo(f.gateways[0], echo)
						f.far[living.key].SetWay(living.agent, link.Path{Remote: living.socket.LocalAddr()})
					}
				}
			}
			moved := dead.through() == gatewayAddr(1)
			if dead.condemned != alive || moved == alive || living.through() != living.own {
				t.Errorf("condemned %v, moved %v, the sibling through %v", dead.condemned, moved, living.through())
			}
			before := dead.through()
			f.advance(time.Second, living.slice)
			if alive && dead.through() != before {
				t.Error("the gateway was left for a slice that is condemned")
			}
		})
	}
}

// TestDirectWayOfAnotherNetwork: all slices go the common way when the network
// changes or UDP falls silent, and ask anew.
func TestDirectWayOfAnotherNetwork(t *testing.T) {
	f := newFixture(t)
	f.connect()
	r := f.reachable(0).open()
	f.forgetDirect()
	f.Client.gateways.use(gatewayAddr(1))
	f.moveTo(gatewayAddr(1), f.config.Now())
	if r.through() != gatewayAddr(1) || r.direct.inUse() {
		t.Errorf("through %v", r.through())
	}
	r.plainProbes(r.agent)
	f.tick()
	if n := len(r.plainProbes(r.agent)); n != 1 {
		t.Errorf("asked %d times", n)
	}
	f.deaf(r.slice)
	f.opened(0)
	r.plainProbes(r.agent)
	f.advance(AskDirectMin*4, r.slice)
	if n := len(r.plainProbes(r.agent)); n != 0 {
		t.Errorf("asked %d times though UDP is silent", n)
	}
}
