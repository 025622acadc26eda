package client

import (
	"runtime"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// calmed is a client at rest whose paths are measured.
func calmed(t *testing.T) (f *fixture, s []*slice) {
	t.Helper()
	f, s = atRest(t)
	f.rests(LookEvery, s...)
	for _, one := range s {
		one.sizing.heard, one.pulse.sequence = one.sizing.say, MeasureProbes // its agent knows the sizes, and the way is measured
	}
	f.rests(2*LookEvery, s...)
	if !f.calm.is {
		t.Fatal("it is never at rest")
	}
	return f, s
}

// looks lets time pass in ticks, and counts at how many of them the client looked at all
// that it has. heard's agents answer what they are asked.
func (f *fixture) looks(d time.Duration, heard ...*slice) (n int) {
	f.Helper()
	for ; d > 0; d -= TickEvery {
		for _, s := range heard {
			s.pulse.heard(f.config.Now())
			f.hears(s)
		}
		f.clock.Add(int64(TickEvery))
		if f.tick(); f.calm.looked == f.config.Now() {
			n++
		}
		f.publishIfDirty()
	}
	return n
}

// TestClientAtRestLooksSeldom: once a second, and asks its agents as often as ever.
func TestClientAtRestLooksSeldom(t *testing.T) {
	f, s := calmed(t)
	for _, one := range s {
		f.asked(one)
	}
	most := int(ProbeIdle/LookEvery) + 2*4 // an agent is asked, and answers
	if n := f.looks(ProbeIdle+LookEvery, s...); n > most || n < int(ProbeIdle/LookEvery) {
		t.Errorf("it looked %d times in %v, at most %d", n, ProbeIdle+LookEvery, most)
	}
	for _, one := range s {
		if len(f.asked(one)) == 0 {
			t.Errorf("slice %d was not asked", one.key.number)
		}
	}
}

// TestMuteClientLooksSeldom: where nobody answers who has nothing to send asks on and does
// little else, and whatever comes or goes is seen at the next tick.
func TestMuteClientLooksSeldom(t *testing.T) {
	f, s := calmed(t)
	f.looks(ProbeIdle + 2*ProbeMute)
	f.asked(s[0])
	ticks, asked := f.looks(8*ProbeMute), len(f.asked(s[0]))
	if most := int(8 * ProbeMute / LookEvery); ticks > most || ticks < most/2 || asked < 12 || asked > 18 { // by each gateway in turn
		t.Errorf("it looked %d times, at most %d, and asked %d times", ticks, most, asked)
	}
	f.speak(s[0])
	if n := f.looks(TickEvery); n != 1 {
		t.Error("it does not see that an agent answers")
	}
}

// TestWhoIsNotMute looks at each tick: of whose agents one was heard, or who has something under
// way that does not wait for an answer.
func TestWhoIsNotMute(t *testing.T) {
	for name, c := range map[string]struct {
		is   func(*fixture, *slice)
		calm bool
	}{
		"nothing":                  {func(*fixture, *slice) {}, true},
		"an agent was heard":       {func(_ *fixture, s *slice) { s.pulse.mute = 0 }, false},
		"one was lately":           {func(f *fixture, s *slice) { s.pulse.mute = f.config.Now() - MuteAfter + 1 }, false},
		"keys are being renewed":   {func(_ *fixture, s *slice) { s.older = s.pair }, false},
		"a slice is dropped":       {func(_ *fixture, s *slice) { s.retireAt = 9 * time.Hour }, false},
		"a slice is offered":       {func(_ *fixture, s *slice) { s.confirmed = false }, false},
		"all goes by a stream":     {func(f *fixture, _ *slice) { f.transport.stream = endless{} }, false},
		"a stream was left lately": {func(f *fixture, _ *slice) { f.transport.parting = []parting{{}} }, false},
	} {
		f, s := calmed(t)
		f.looks(ProbeIdle + 2*ProbeMute)
		now := f.config.Now()
		c.is(f, s[1])
		if f.noteCalm(now); f.calm.is != c.calm {
			t.Errorf("%s: calm %t", name, f.calm.is)
		}
		s[1].older, f.transport.stream, f.transport.parting = nil, nil, nil // for the end
	}
}

// endless is a stream of which nothing is asked.
type endless struct{ Stream }

// TestWhatDisturbs: whatever happens is seen at the next tick.
func TestWhatDisturbs(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*fixture, []*slice)
		looks   int // in three ticks
	}{
		"nothing":              {func(*fixture, []*slice) {}, 0},
		"something comes":      {func(f *fixture, s []*slice) { f.speak(s[0]) }, 1},
		"an event":             {func(f *fixture, _ []*slice) { f.turn(heldQuestion{make(chan []protocol.SliceRef, 1)}) }, 1},
		"an answer is awaited": {func(f *fixture, s []*slice) { f.turn(quietly(func() { f.ask(s[0], f.config.Now()) })) }, 3},
		"a slice is dropped":   {func(f *fixture, s []*slice) { f.turn(quietly(func() { s[1].retireAt = 9 * time.Hour })) }, 3},
		"keys are being renewed": {func(f *fixture, s []*slice) {
			f.turn(quietly(func() { s[1].older, s[1].olderAt = s[1].pair, 9*time.Hour }))
		}, 3},
		"it stood still": {func(f *fixture, _ []*slice) { f.clock.Add(int64(RestartAfter) / 2) }, 1},
	} {
		f, s := calmed(t)
		for f.looks(TickEvery, s...) == 0 { // so that none is due
		}
		c.happens(f, s)
		if n := f.looks(3 * TickEvery); n != c.looks {
			t.Errorf("%s: it looked %d times, want %d", name, n, c.looks)
		}
	}
}

// TestWhatIsHeardDisturbs: a packet from inside is no event, and is seen all the same.
func TestWhatIsHeardDisturbs(t *testing.T) {
	f, s := calmed(t)
	for f.looks(TickEvery, s...) == 0 { // so that none is due
	}
	f.clock.Add(int64(TickEvery))
	now := f.config.Now()
	if !f.undisturbed(now) {
		t.Fatal("disturbed by nothing")
	}
	f.ok(f.far[s[0].key].SendControl(probe.Ask(1, 0)))
	for hang := time.Now().Add(hangLimit); s[0].pair.LastHeard() != int64(now); runtime.Gosched() {
		if time.Now().After(hang) {
			t.Fatal("it is not heard")
		}
	}
	if f.undisturbed(now) {
		t.Error("undisturbed")
	}
}

// quietly is an event of the test's own.
type quietly func()

func (q quietly) apply(*Client) { q() }

// TestNobodyAnswersOneAtRest: it asks ten times a second at first, later every other second, and
// often again as soon as it has something to send or is answered.
func TestNobodyAnswersOneAtRest(t *testing.T) {
	asks := func(from, to time.Duration, sent func(now time.Duration) time.Duration) (n int) {
		p := &pulse{sequence: MeasureProbes, waiting: time.Hour, mute: time.Hour, askedAt: time.Hour}
		for now := time.Hour; now < time.Hour+to; now += TickEvery {
			if p.due(now, sent(now), false, ProbeIdle) {
				if p.askedAt = now; now >= time.Hour+from {
					n++
				}
			}
		}
		return n
	}
	silent := func(time.Duration) time.Duration { return 0 }
	for _, c := range []struct {
		from, to time.Duration
		sent     func(time.Duration) time.Duration
		want     int
	}{
		{0, time.Second, silent, 6}, {time.Minute, 70 * time.Second, silent, 2},
		{time.Minute, 70 * time.Second, func(now time.Duration) time.Duration { return now }, 100},
	} {
		if n := asks(c.from, c.to, c.sent); n < c.want-1 || n > c.want+1 {
			t.Errorf("from %v to %v it asks %d times, want %d", c.from, c.to, n, c.want)
		}
	}
	f, s := calmed(t)
	s[0].sizing.search.Move(false) // there is much to be tried
	f.ask(s[0], f.config.Now())
	f.clock.Add(int64(2 * MutePart * ProbeActive))
	f.asked(s[0])
	if f.Client.measure(s[0], f.config.Now()); len(f.asked(s[0])) > 0 {
		t.Error("sizes are tried where nobody answers")
	}
	if s[0].pulse.restart(f.config.Now()); s[0].pulse.mute == 0 {
		t.Error("another gateway is taken for an answer")
	}
	if s[0].pulse.heard(f.config.Now()); s[0].pulse.mute != 0 {
		t.Error("an answer is not taken for one")
	}
}

// TestSilentGatewaysAreNotTriedOnAndOn: where all were silent, and there is nothing to send,
// the next is tried as seldom as agents are asked.
func TestSilentGatewaysAreNotTriedOnAndOn(t *testing.T) {
	f := newFixture(t)
	s := f.slice(0, 1)
	f.ask(s, f.config.Now())
	f.advance(time.Minute)
	was := f.Client.gateways.inVain
	if most := f.Client.gateways.count() + 40; was <= f.Client.gateways.count() || was > most {
		t.Errorf("%d gateways were left in a minute, at most %d", was, most)
	}
	for range 10 * time.Second / TickEvery {
		f.advance(TickEvery)
	}
	if n, most := f.Client.gateways.inVain-was, int(10*time.Second/ProbeMute)+1; n == 0 || n > most {
		t.Errorf("then %d in ten seconds, at most %d", n, most)
	}
}
