package client

import (
	"context"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// leaves lets ticks pass until the gateway in use is left, each with what then does.
func (f *fixture) leaves(each func()) {
	f.Helper()
	for before, n := f.Client.gateways.current, 0; f.Client.gateways.current == before; n++ {
		if n == 40 {
			f.Fatalf("gateway %d is not left", before)
		}
		each()
		f.advance(TickEvery)
	}
}

// TestConnectionOutlivesACutOffAgent: the client came to the arbiter through another gateway
// long ago. The one of its slices is cut off from other nodes, with the agent on it, and is
// left; by the next one that agent, who is the last, is silent too. The arbiter's offers are on
// the way by the connection through it, which stays until somebody is heard elsewhere, and then
// if a word came by it.
func TestConnectionOutlivesACutOffAgent(t *testing.T) {
	for _, word := range []bool{false, true} {
		f := newFixture(t)
		f.do(welcomed{f.connectBy(1), protocol.Welcome{}})
		near, granted := f.slice(0, 1), f.slice(1, 2)
		granted.confirmed = false
		f.advance(3*time.Second, near)
		f.leaves(func() { f.speak(near); f.says(near, probe.PathLost) })
		for range 2 {
			f.speak(near) // what it sent by the way before
			f.advance(TickEvery)
		}
		if f.leaves(func() {}); f.control == nil {
			t.Fatal("the connection is given up for an agent that is cut off")
		}
		f.speak(near)
		f.tick()
		f.hears(near)
		if f.advance(TickEvery); f.control == nil {
			t.Fatal("an agent that says it is lost shows that the other gateway is dead")
		}
		if word {
			f.heard(f.config.Now())
		}
		f.speak(near)
		f.says(near, probe.PathGood)
		if f.tick(); (f.control != nil) != word {
			t.Errorf("a word came %t: the connection is kept %t", word, f.control != nil)
		}
	}
}

// TestSilentGatewayIsLeftWithItsConnection: one that led to an agent, however new to the
// client, and then is dead.
func TestSilentGatewayIsLeftWithItsConnection(t *testing.T) {
	f := newFixture(t)
	s := f.slice(0, 1)
	f.advance(time.Second, s)
	f.ask(s, f.config.Now())
	f.leaves(func() {})
	f.do(welcomed{f.connectBy(1), protocol.Welcome{}})
	f.advance(500*ms, s)
	f.ask(s, f.config.Now())
	if f.leaves(func() {}); f.control != nil {
		t.Error("the connection is kept")
	}
}

// TestAttemptThroughASilentGatewayIsAbandoned: one that the gateway answered may go on for
// long, but not when that was heard until now and is silent, and traffic waits: what takes the
// place of a lost slice is granted over that connection. The attempt goes on where it is
// through another gateway, or where nobody was heard, or for who has nothing to send: a mesh
// that begins anew is silent to all its clients.
func TestAttemptThroughASilentGatewayIsAbandoned(t *testing.T) {
	for name, c := range map[string]struct {
		through                 int
		unheard, rests, abandon bool
	}{
		"it is that gateway":             {abandon: true},
		"another one":                    {through: 1},
		"nobody was heard by it":         {unheard: true},
		"the client has nothing to send": {rests: true},
	} {
		f := newFixture(t)
		s := f.slice(0, 1)
		f.Client.session = &session{ready: c.rests}
		f.advance(time.Second, s)
		s.pulse.trial = c.unheard
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f.dialing.Store(&attempt{gatewayAddr(c.through), cancel})
		f.ask(s, f.config.Now())
		f.leaves(func() {})
		if (ctx.Err() != nil) != c.abandon {
			t.Errorf("%s: abandoned: %t", name, ctx.Err() != nil)
		}
	}
}

// TestDeadSiblingIsNoExcuse: a gateway that was heard until now is left with the connection
// through it, though the arbiter was heard after one of the slices had fallen silent for good.
func TestDeadSiblingIsNoExcuse(t *testing.T) {
	f := newFixture(t)
	f.do(welcomed{f.connect(), protocol.Welcome{}})
	dead, living := f.slice(0, 1), f.slice(1, 1)
	f.ask(dead, f.config.Now())
	for range 40 {
		f.advance(TickEvery, living)
		f.heard(f.config.Now())
	}
	if f.leaves(func() {}); f.control != nil {
		t.Error("the connection is kept")
	}
}

// TestBlamedGatewayIsGivenUp: when another one leads on and no word came by it. Of whom
// packets come that were sent by the way before shows nothing, and who is heard by the blamed
// one itself clears it.
func TestBlamedGatewayIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		is   func(*fixture, *slice)
		kept bool
	}{
		"another one leads on":         {func(*fixture, *slice) {}, false},
		"a word came when it was left": {func(f *fixture, _ *slice) { f.heard(f.Client.gateways.blamedAt) }, false},
		"a word came by it since":      {func(f *fixture, _ *slice) { f.heard(f.Client.gateways.blamedAt + 1) }, true},
		"what comes may be old":        {func(_ *fixture, s *slice) { s.pulse.trial = true }, true},
		"the connection is another":    {func(f *fixture, _ *slice) { f.control.gateway = gatewayAddr(0) }, true},
		"it leads on itself": {func(f *fixture, s *slice) {
			f.Client.gateways.use(gatewayAddr(1))
			f.reached(s)
			f.Client.gateways.use(gatewayAddr(0))
		}, true},
	} {
		f := newFixture(t)
		f.do(welcomed{f.connectBy(1), protocol.Welcome{}})
		s := f.slice(0, 1)
		f.advance(time.Second, s)
		f.Client.gateways.blamed, f.Client.gateways.blamedAt = gatewayAddr(1), f.config.Now()
		c.is(f, s)
		if f.reached(s); (f.control != nil) != c.kept {
			t.Errorf("%s: the connection is kept: %t", name, f.control != nil)
		}
	}
}

// TestHeardByTheGateway: who goes past it, or is not in use, says nothing of it, dead or alive.
func TestHeardByTheGateway(t *testing.T) {
	for name, c := range map[string]struct {
		is    func(*slice)
		leads bool
	}{
		"by it":         {func(*slice) {}, true},
		"directly":      {func(s *slice) { s.direct.way = gatewayAddr(7) }, false},
		"it is offered": {func(s *slice) { s.confirmed = false }, false},
		"it is dropped": {func(s *slice) { s.retireAt = 9 * time.Hour }, false},
	} {
		f := newFixture(t)
		mute, other := f.slice(0, 1), f.slice(1, 1)
		now := f.config.Now()
		mute.pulse.trial, mute.pulse.mute, f.wordAt = true, now, now+WordAfter+1
		other.pulse.heardAt = now + 1
		c.is(other)
		if f.led() != c.leads || f.heardMeanwhile() == c.leads {
			t.Errorf("%s: it leads to agents: %t, all are silent: %t", name, f.led(), f.heardMeanwhile())
		}
		f.wordAt = now + WordAfter
		if f.heardMeanwhile() {
			t.Errorf("%s: a word that may have been on its way counts", name)
		}
	}
}
