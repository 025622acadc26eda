package client

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/host"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// restarted is a parked client of three gateways whose nodes were all started anew. One of its
// agents was asked in its turn a moment ago, and nobody answers. It counts the datagrams that the
// client sends from then on.
func restarted(t *testing.T) (f *fixture, sent *atomic.Int64) {
	t.Helper()
	f, s := calmed(t)
	f.knows(3)
	f.parks(s...)
	for f.looks(ParkedTurn, s...); s[0].pulse.waiting == 0 && s[1].pulse.waiting == 0; {
		f.looks(TickEvery, s...)
	}
	sent = new(atomic.Int64)
	f.sim.Tap(func(linktest.Datagram) { sent.Add(1) })
	return f, sent
}

// comes lets time pass until a parked client makes its connection.
func (f *fixture) comes() {
	f.Helper()
	for end := f.config.Now() + 10*time.Second; f.parking.mark != 0; f.looks(TickEvery) {
		if f.config.Now() > end {
			f.Fatal("it does not come")
		}
	}
}

// told gives the client an appointment, as its dialer does, and lets that time pass.
func (f *fixture) told(in time.Duration, again bool) {
	f.Helper()
	now := f.config.Now()
	f.Client.appointed.Store(&appointment{since: now, until: now + in, again: again})
	f.looks(in)
	f.Client.appointed.Store(nil)
}

// TestReturnInFewDatagrams: of ten thousand clients that come back each wakes a gateway and an
// agent by each datagram that it sends.
func TestReturnInFewDatagrams(t *testing.T) {
	f, sent := restarted(t)
	for _, step := range []struct {
		name   string
		passes func()
		most   int64
	}{
		{"until it comes", f.comes, 8},
		{"told when its turn is", func() { f.told(7300*ms, false) }, 0},
		{"told again", func() { f.told(2200*ms, true) }, 0},
		{"queued, and let in", func() { f.keepQuiet(true); f.looks(4500 * ms) }, 0},
	} {
		before := sent.Load()
		if step.passes(); sent.Load()-before > step.most {
			t.Errorf("%s: %d datagrams, at most %d", step.name, sent.Load()-before, step.most)
		}
	}
}

// TestAskedBeforeItWasTold: who asked all its agents in vain just before asks none because it is
// told, whenever that is. What it asked may be answered later, and then it asks all.
func TestAskedBeforeItWasTold(t *testing.T) {
	for _, after := range []time.Duration{0, 500 * ms, time.Second, 2500 * ms} {
		f, sent := restarted(t)
		f.comes()
		f.looks(after)
		before := sent.Load()
		f.told(AskedFirst+LookEvery, false)
		if n := sent.Load() - before; n > 2 { // its silence is too young yet
			t.Errorf("told %v after it came it sends %d datagrams", after, n)
		}
		f.keepQuiet(true)
		before = sent.Load()
		f.speak(f.slices[sliceKey{0, 1}])
		if f.looks(LookEvery); sent.Load() == before {
			t.Errorf("told %v after it came, and one agent is heard: it asks nobody", after)
		}
	}
}

// TestNobodyIsAskedByAGatewayThatIsLeft in a moment; in time for an answer they are, and where
// nobody is to be left, or somebody waits for the verdict.
func TestNobodyIsAskedByAGatewayThatIsLeft(t *testing.T) {
	for name, c := range map[string]struct {
		is   func(f *fixture, s []*slice)
		want bool
	}{
		"all were asked":         {func(*fixture, []*slice) {}, true},
		"one a moment later":     {func(_ *fixture, s []*slice) { s[1].pulse.waiting++ }, false},
		"one was heard":          {func(_ *fixture, s []*slice) { s[1].pulse.waiting = 0 }, false},
		"something was sent":     {func(_ *fixture, s []*slice) { s[1].pulse.calm = false }, false},
		"two questions went out": {func(f *fixture, _ []*slice) { f.Client.gateways.open.count = AskedEnough - 1 }, false},
		"the round is not over":  {func(f *fixture, _ []*slice) { f.Client.gateways.inVain = f.Client.gateways.count() }, true},
		"all were left in a row": {func(f *fixture, _ []*slice) { f.Client.gateways.inVain = f.Client.gateways.count() + 1 }, false},
	} {
		f, s := calmed(t)
		now := f.config.Now()
		f.Client.gateways.open.count = AskedEnough
		for _, one := range s {
			one.pulse.calm, one.pulse.waiting = true, now+ProbeActive-Unhurried*one.pulse.rtt.Silence()
		}
		c.is(f, s)
		if got := f.leavesSoon(s, now); got != c.want {
			t.Errorf("%s: the gateway is left soon: %t", name, got)
		}
	}
}

// TestKeptGatewayIsAskedOn: one that is silent and has no other in its place, in turns where the
// client waits.
func TestKeptGatewayIsAskedOn(t *testing.T) {
	for _, waits := range []bool{false, true} {
		f, s := calmed(t)
		f.config.Network, f.exit = &around{}, host.Exit{} // nothing can leave: no gateway is the worse for it
		f.looks(ProbeIdle + 2*ParkedTurn)
		if waits {
			now := f.config.Now()
			f.Client.appointed.Store(&appointment{since: now, until: now + port.MaxWait, again: true})
		}
		f.asked(s[0])
		f.asked(s[1])
		f.looks(ParkedTurn + LookEvery)
		n := len(f.asked(s[0])) + len(f.asked(s[1]))
		if waits && n != 1 || !waits && n < 4 {
			t.Errorf("waits %t: it asks %d times in %v", waits, n, ParkedTurn)
		}
		f.config.Network = nil
	}
}

// TestOneQuestionIsNoSilence: nor are those of long ago, whoever is held.
func TestOneQuestionIsNoSilence(t *testing.T) {
	const since = time.Hour
	for name, c := range map[string]struct {
		is   func(f *fixture, s []*slice)
		want bool
	}{
		"two":                   {func(*fixture, []*slice) {}, true},
		"one":                   {func(_ *fixture, s []*slice) { s[1].pulse.asked[0] = 0 }, false},
		"one, and one answered": {func(_ *fixture, s []*slice) { s[1].pulse.mute = since }, false},
		"an agent is heard":     {func(_ *fixture, s []*slice) { s[1].pulse.mute = 0 }, false},
		"two of long ago":       {func(_ *fixture, s []*slice) { s[1].pulse.asked[0] = since - AskedFirst - 1 }, false},
		"of one that is dropped, none": {func(_ *fixture, s []*slice) {
			s[1].pulse.asked, s[1].retireAt = [2]time.Duration{}, 9*time.Hour
		}, true},
		"all are dropped": {func(_ *fixture, s []*slice) { s[0].retireAt, s[1].retireAt = 9*time.Hour, 9*time.Hour }, false},
	} {
		f := newFixture(t)
		s := []*slice{f.slice(0, 1), f.slice(1, 1)}
		for _, one := range s {
			one.pulse.mute, one.pulse.asked = since-2*time.Second, [2]time.Duration{since - time.Second, since}
		}
		c.is(f, s)
		if got := f.askedInVain(&appointment{since: since}); got != c.want {
			t.Errorf("%s: asked in vain %t", name, got)
		}
	}
	f := newFixture(t)
	s := f.slice(0, 1)
	f.ask(s, f.config.Now())
	f.moveTo(gatewayAddr(1), f.config.Now())
	if f.askedInVain(&appointment{since: f.config.Now()}) {
		t.Error("two questions at one moment are two")
	}
}

// TestWhoWaitsKeepsItsGateway once another one was silent as well, and tries the next as seldom as
// one that is parked would notice its gateway's death.
func TestWhoWaitsKeepsItsGateway(t *testing.T) {
	for name, c := range map[string]struct {
		inVain  int
		waits   bool
		silent  time.Duration
		isKept  bool
		andSend bool
	}{
		"none was left yet":              {0, true, 2 * time.Second, false, false},
		"one was":                        {1, true, ParkedTurn - 1, true, false},
		"one was, long ago":              {1, true, ParkedTurn, false, false},
		"all were, long ago":             {4, true, ParkedTurn, true, false},
		"one was, and nobody waits":      {1, false, 2 * time.Second, false, false},
		"all were, and nobody waits":     {4, false, 2 * time.Second, true, false},
		"the same, long ago":             {4, false, ParkedTurn, false, false},
		"all were, and there is traffic": {4, false, 2 * time.Second, false, true},
		"one was, and there is traffic":  {1, true, 2 * time.Second, false, true},
	} {
		f, s := waiting(t)
		f.knows(3)
		now := f.config.Now()
		f.Client.gateways.inVain = c.inVain
		if !c.waits {
			f.Client.appointed.Store(nil)
		}
		if c.andSend {
			f.unsent.at = now
		}
		for _, one := range s {
			one.pulse.waiting = now - c.silent
		}
		if f.mayWait(s, now) != c.isKept {
			t.Errorf("%s: kept %t", name, !c.isKept)
		}
	}
}

// TestTwoDeadGateways: whose agents are well, and which waits for its turn at the second gateway
// that is dead, finds the third as soon as a parked client finds the next.
func TestTwoDeadGateways(t *testing.T) {
	f, _ := restarted(t)
	f.comes()
	now, second := f.config.Now(), f.Client.gateways.current
	f.Client.appointed.Store(&appointment{since: now, until: now + port.MaxWait})
	for f.Client.gateways.current == second && f.config.Now() < now+time.Minute {
		f.looks(TickEvery)
	}
	if took := f.config.Now() - now; took < AskedFirst || took > ParkedTurn+time.Second {
		t.Errorf("it tries the third after %v", took)
	}
}

// TestQuietUntilItIsLetIn: also while the attempt that keeps the appointment queues, until that
// ends in another way or is welcomed. Who comes for another reason asks.
func TestQuietUntilItIsLetIn(t *testing.T) {
	for name, c := range map[string]struct {
		moved bool
		fails bool // its first attempt, and nobody says when to come
		quiet bool
	}{"it keeps its appointment": {quiet: true}, "its network is another": {moved: true}, "it has none": {fails: true}} {
		synctest.Test(t, func(t *testing.T) {
			began, attempts := time.Now(), 0
			ctx, cancel := context.WithCancel(t.Context())
			queues, ends := make(chan struct{}), make(chan struct{})
			dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
				switch attempts++; {
				case attempts > 1:
				case c.fails:
					return nil, io.EOF
				default:
					return telling(1_200)(ctx)
				}
				close(queues)
				<-ends
				return nil, io.EOF
			}
			client := &Client{
				gateways: gatewayList{all: []netip.AddrPort{way4}}, redial: make(chan haste, 1), failed: make(chan error, 1),
				session: &session{ready: true}, config: Config{
					Dial: dial, Wall: time.Now, Now: func() time.Duration { return time.Since(began) },
					Random: rand.Reader, Log: slog.New(slog.DiscardHandler),
				},
			}
			go client.keepControl(ctx)
			if c.moved {
				time.AfterFunc(time.Second, func() { client.redial <- moved })
			}
			<-queues
			synctest.Wait()
			if got := client.waits(client.config.Now()); got != c.quiet {
				t.Errorf("%s: it is quiet while it queues: %t", name, got)
			}
			close(ends)
			synctest.Wait()
			if client.waits(client.config.Now()) {
				t.Errorf("%s: it is quiet though its attempt came to nothing", name)
			}
			cancel()
			synctest.Wait()
		})
	}
	f, _ := waiting(t)
	now := f.config.Now()
	f.Client.appointed.Store(&appointment{since: 1, until: now})
	if !f.waits(now) || f.waits(now+LookEvery) {
		t.Error("its time is over, and its dialer not there yet: it is not quiet, or for ever")
	}
	f.keepQuiet(true)
	if f.looks(LookEvery); !f.waits(f.config.Now()) {
		t.Error("it is not quiet while it queues")
	}
	if f.looks(AttemptWithin + WelcomeWithin - LookEvery); !f.waits(f.config.Now()) {
		t.Error("it is not quiet until its attempt is over")
	}
	if f.looks(2 * LookEvery); f.waits(f.config.Now()) {
		t.Error("it is quiet for longer than an attempt")
	}
	f.keepQuiet(true)
	welcomed{f.connect(), protocol.Welcome{Session: f.session.welcome.Session, Parks: true, Headless: 900}}.apply(f.Client)
	if f.waits(f.config.Now()) {
		t.Error("it is quiet though it is let in")
	}
}

// TestStaleQuiet: who came to its turn once does not take the next attempt for another.
func TestStaleQuiet(t *testing.T) {
	b := newBackoff(rand.Reader)
	b.kept = true
	if b.ended(0, nil, io.EOF); b.kept {
		t.Error("an attempt without an appointment keeps one")
	}
}

// TestAppointmentsWithoutEnd: nobody has proved that he may say when a turn comes. Who hears it
// again and again, and has tried all gateways in vain, tries the next all the same: it may be there
// again, and so may the agents.
func TestAppointmentsWithoutEnd(t *testing.T) {
	f, _ := restarted(t)
	f.comes()
	tells := func(d time.Duration) (tried map[int]bool) {
		tried = make(map[int]bool)
		for end := f.config.Now() + d; f.config.Now() < end; f.looks(LookEvery) {
			now := f.config.Now()
			f.Client.appointed.Store(&appointment{since: now, until: now + AttemptWithin, again: true})
			tried[f.Client.gateways.current%f.Client.gateways.count()] = true
		}
		return tried
	}
	tells(5 * ParkedTurn)
	if g := &f.Client.gateways; g.inVain <= g.count() {
		t.Fatalf("%d gateways are left of %d", g.inVain, g.count())
	}
	if tried := tells(3 * MaxUnanswered * ParkedTurn); len(tried) != 3 {
		t.Errorf("it tries %d gateways of 3", len(tried))
	}
}
