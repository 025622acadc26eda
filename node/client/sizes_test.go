package client

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// sizedPath is what lies between a slice and its agent.
type sizedPath struct {
	*fixture
	*slice
	most   int // inner size that passes
	inside uint16
	old    bool // the agent knows no padded probes
	told   probe.Padded
	probes int
}

// pass lets one tick pass, in which agents answer what their paths carry.
func (f *fixture) pass(d time.Duration, paths ...*sizedPath) {
	f.Helper()
	for ; d > 0; d -= TickEvery {
		f.clock.Add(int64(TickEvery))
		for _, p := range paths {
			p.speak(p.slice)
			p.hears(p.slice)
			p.answer()
		}
		f.tick()
		f.publishIfDirty()
	}
}

func (p *sizedPath) answer() {
	p.Helper()
	for _, body := range p.arrived(0, p.slice) {
		q, ok := probe.ParsePadded(body, probe.KindPadded)
		if !ok || p.old || q.Size > p.most {
			continue
		}
		p.told = q
		p.probes++
		q.MTU, q.Limit = p.inside, 0
		p.ok(p.far[p.slice.key].SendPadded(q.Marshal(probe.KindPaddedReply)))
		p.until("the answer is heard", func() bool { return p.sizing.token != q.Token || p.heardOf(q) })
	}
	p.pump()
}

// heardOf reports whether the client took the answer.
func (p *sizedPath) heardOf(q probe.Padded) bool {
	return p.sizing.heard == p.sizing.say || p.sizing.search.Measured() && p.sizing.search.Size() >= q.Size
}

func (f *fixture) sized(number uint8, outer int) *sizedPath {
	return &sizedPath{fixture: f, slice: f.slice(number, 1), most: pmtu.Inner(outer, false)}
}

// TestSmallestPathWins: the session's MTU is that of its smallest path, the TUN
// and every agent are told.
func TestSmallestPathWins(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a, b := f.sized(0, 1500), f.sized(1, 1400)
	f.pass(2*time.Second, a, b)
	if f.mtu != 1338 || len(f.mtus) == 0 || f.mtus[len(f.mtus)-1] != 1338 {
		t.Errorf("MTU %d, the TUN was given %v", f.mtu, f.mtus)
	}
	for _, p := range []*sizedPath{a, b} {
		mtu, limit := p.pair.Sizes()
		if mtu != 1338 || limit != p.most || p.told.MTU != 1338 || int(p.told.Limit) != p.most {
			t.Errorf("slice %d: %d, %d here, %+v there", p.slice.key.number, mtu, limit, p.told)
		}
		p.probes = 0
	}
	f.pass(2*time.Second, a, b)
	if a.probes != 0 || b.probes != 0 {
		t.Errorf("%d and %d more probes on idle paths whose agents know", a.probes, b.probes)
	}
	f.retire(b.slice.key, f.config.Now())
	f.pass(time.Second, a)
	if f.mtu != 1438 {
		t.Errorf("MTU %d after the smaller path went", f.mtu)
	}
}

// TestNoLessThanIPv6Needs: below, packets travel in two datagrams.
func TestNoLessThanIPv6Needs(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.sized(0, 1024)
	f.pass(3*time.Second, a)
	if mtu, limit := a.pair.Sizes(); mtu != pmtu.MinMTU || limit != a.most || len(f.mtus) != 0 {
		t.Errorf("%d, %d, the TUN was given %v", mtu, limit, f.mtus)
	}
}

// TestInsideNetworkBounds: what agents would have to hand on in fragments is not
// offered.
func TestInsideNetworkBounds(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.sized(0, 9000)
	a.inside = 1460
	f.pass(2*time.Second, a)
	if mtu, limit := a.pair.Sizes(); mtu != 1460 || limit != a.most {
		t.Errorf("%d, %d", mtu, limit)
	}
}

// TestOldAgents: who answers no padded probe gets what there was before them.
func TestOldAgents(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.sized(0, 1500)
	a.old = true
	f.pass(3*time.Second, a)
	if f.mtu != pmtu.Legacy || !slices.Equal(f.mtus, []int{pmtu.Legacy}) {
		t.Errorf("MTU %d, the TUN was given %v", f.mtu, f.mtus)
	}
	said := a.sizing.tries
	f.pass(2*SizeTries*SizeRetry, a)
	if a.sizing.tries != SizeTries || said >= SizeTries {
		t.Errorf("said %d times", a.sizing.tries)
	}
}

// TestNewPathIsMeasured: with another gateway what passed is shown again first.
func TestNewPathIsMeasured(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.sized(0, 1500)
	f.pass(2*time.Second, a)
	a.most = pmtu.Inner(1400, false)
	f.moveTo(gatewayAddr(0), f.config.Now())
	if f.mtu != 1438 {
		t.Errorf("MTU %d before the new path was asked", f.mtu)
	}
	f.pass(3*time.Second, a)
	if f.mtu != 1338 {
		t.Errorf("MTU %d on the new path", f.mtu)
	}
}

// TestNewKeysAreTold: an agent's new SA knows no sizes until it is told.
func TestNewKeysAreTold(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.sized(0, 1500)
	f.pass(2*time.Second, a)
	a.told = probe.Padded{}
	a.sizing.retell()
	f.pass(4*TickEvery, a)
	if a.told.MTU != 1438 || a.told.Size != probe.LenPadded {
		t.Errorf("told %+v", a.told)
	}
}

// TestNewSliceTriesWhatIsKnown: one packet shows that the way through a gateway is as it was
// there, or through the one before.
func TestNewSliceTriesWhatIsKnown(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.sized(0, 1500)
	f.pass(8*time.Second, a)
	due := func(number uint8) []int {
		o := f.offer(number, 1, nil).offer
		s, err := f.newSlice(&o)
		f.ok(err)
		defer s.end()
		return s.sizing.search.Step(pmtu.Tick{Now: f.config.Now(), Patience: time.Second})
	}
	if got := due(1); !slices.Equal(got, []int{1438}) {
		t.Errorf("a new slice tries %v", got)
	}
	f.restart(f.config.Now())
	if got := due(1); !slices.Equal(got, []int{1438}) {
		t.Errorf("the first slice after all were given up tries %v", got)
	}
	f.moveTo(f.passOn(f.config.Now()), f.config.Now())
	f.pass(TickEvery)
	if got := due(1); !slices.Equal(got, []int{1438}) {
		t.Errorf("through another gateway it tries %v", got)
	}
}

// TestDirectWayIsNoOther: what a slice's way past the gateway carries says nothing of the ways
// through it.
func TestDirectWayIsNoOther(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.sized(0, 9000)
	a.direct.way = gatewayAddr(7)
	f.pass(8*time.Second, a)
	if !a.sizing.search.Settled() || f.path.Settled() {
		t.Errorf("measured %t, taken for the gateway's %t", a.sizing.search.Settled(), f.path.Settled())
	}
	a.direct.way = netip.AddrPort{}
	f.pass(2*TickEvery, a)
	if !f.path.Settled() {
		t.Error("it is not taken from a slice through the gateway: this test shows nothing")
	}
}

// TestNewSliceSaysLittle: of a client that is back, whose MTU is known, a new slice sends what
// shows the size of its path, which says that MTU to the agent as well, and then that size.
func TestNewSliceSaysLittle(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.sized(0, 1500)
	f.pass(8*time.Second, a)
	b := f.sized(1, 1500)
	b.sizing.search = pmtu.Like(&f.path, false)
	f.pass(2*time.Second, a, b)
	if mtu, limit := b.pair.Sizes(); mtu != 1438 || limit != 1438 || b.told.MTU != 1438 || b.told.Limit != 1438 {
		t.Errorf("%d, %d here, %+v there", mtu, limit, b.told)
	}
	if b.probes != 2 {
		t.Errorf("%d packets, where two say all", b.probes)
	}
}

// backAtRest is a client that came back to paths that carry so much, and moved nothing; before,
// they carried 1,500 bytes. It has two fresh slices.
func backAtRest(t *testing.T, outer int) (f *fixture, paths []*sizedPath) {
	t.Helper()
	f = newFixture(t)
	f.connect()
	older := f.sized(0, 1500)
	f.pass(8*time.Second, older)
	f.forget(older.slice)
	f.session = &session{resumed: true}
	for number := range uint8(2) {
		p := f.sized(number, outer)
		p.sizing.search = pmtu.Like(&f.path, false)
		f.trustPath(p.slice, f.config.Now())
		paths = append(paths, p)
	}
	return f, paths
}

// agentSends has a packet from inside come over a slice.
func (f *fixture) agentSends(s *slice) {
	f.Helper()
	packet := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 77, 0, 16, 0, 7, 0, 7, 0, 8, 0, 0}
	far := f.far[s.key]
	counter, err := far.Out.Reserve(1, len(packet))
	f.ok(err)
	frame := make([]byte, esp.SealedLen(len(packet)))
	copy(frame[esp.PayloadOffset:], packet)
	f.ok(far.Send(far.Out.Seal(frame, len(packet), esp.NextIPv4, counter)))
	f.until("the packet has come", s.moved)
}

// TestWhoIsBackAtRestMeasuresNothing until something is moved, whichever way; meanwhile it goes by
// what its paths carried before. Then one packet of each slice shows it, and says it.
func TestWhoIsBackAtRestMeasuresNothing(t *testing.T) {
	for name, moves := range map[string]func(*fixture, *slice){
		"its host sends":         func(f *fixture, _ *slice) { f.hostSends() },
		"something comes for it": (*fixture).agentSends,
		"an agent calls it":      func(f *fixture, _ *slice) { f.parking.stays = true },
		"a slice goes directly":  func(_ *fixture, s *slice) { s.direct.way = gatewayAddr(7) },
	} {
		f, p := backAtRest(t, 1500)
		f.pass(5*time.Second, p...)
		for _, one := range p {
			if mtu, limit := one.pair.Sizes(); one.probes != 0 || mtu != 1438 || limit != 1438 || f.mtu != 1438 {
				t.Errorf("%s later: %d padded packets, sizes %d and %d, MTU %d", name, one.probes, mtu, limit, f.mtu)
			}
		}
		if !p[0].atRest(f.config.Now()) || !p[1].atRest(f.config.Now()) {
			t.Errorf("%s later: it is not at rest", name)
		}
		moves(f, p[0].slice)
		f.pass(3*TickEvery, p...)
		for _, one := range p {
			if one.probes != 1 || one.told.MTU != 1438 || one.told.Limit != 1438 || !one.sizing.search.Measured() {
				t.Errorf("%s: %d padded packets, told %+v", name, one.probes, one.told)
			}
		}
	}
}

// TestOnlyWhoRestsIsWoken: what is moved over a path that was measured says nothing of those that
// are taken for what they were.
func TestOnlyWhoRestsIsWoken(t *testing.T) {
	f, p := backAtRest(t, 1500)
	measured := f.sized(2, 1500)
	f.agentSends(measured.slice)
	f.pass(time.Second, append(p, measured)...)
	if measured.probes == 0 || p[0].probes != 0 || p[1].probes != 0 {
		t.Errorf("%d padded packets over the one, %d and %d over the others", measured.probes, p[0].probes, p[1].probes)
	}
	f.agentSends(p[0].slice)
	if f.pass(3*TickEvery, append(p, measured)...); p[0].probes == 0 || p[1].probes == 0 {
		t.Error("they are not woken by what is moved over one of them: this test shows nothing")
	}
}

// TestPathsThatCarryLessNow: who moves something finds out as soon as of a path that shrank.
func TestPathsThatCarryLessNow(t *testing.T) {
	f, p := backAtRest(t, 1400)
	f.pass(time.Second, p...)
	f.hostSends()
	f.pass(2*time.Second, p...)
	for _, one := range p {
		if mtu, limit := one.pair.Sizes(); mtu != 1338 || limit != one.most || f.mtu != 1338 {
			t.Errorf("sizes %d and %d, MTU %d", mtu, limit, f.mtu)
		}
	}
}

// carries is what is known of a path that was found to carry so much.
func carries(outer int) *pmtu.Search {
	s, most := pmtu.New(false), pmtu.Inner(outer, false)
	for now := time.Duration(0); !s.Settled(); now += time.Second {
		for _, size := range s.Step(pmtu.Tick{Now: now, Heard: now, Patience: time.Second}) {
			if size > most {
				s.Refuse(size)
			} else {
				s.Pass(size, now)
			}
		}
	}
	return s
}

// TestWhosePathsAreMeasuredAtOnce: of a client that cannot know that they are what they were, or
// whose agents, told nothing, would take them for more.
func TestWhosePathsAreMeasuredAtOnce(t *testing.T) {
	for name, change := range map[string]func(*fixture){
		"it logged in":               func(f *fixture) { f.session.resumed = false },
		"it had traffic":             func(f *fixture) { f.parking.stays = true },
		"it has something to send":   func(f *fixture) { f.unsent.at = f.config.Now() },
		"another network":            func(f *fixture) { f.doubtPath() },
		"no path was ever measured":  func(f *fixture) { f.path = pmtu.Search{} },
		"its paths are narrow":       func(f *fixture) { f.path = *carries(1300) },
		"nothing of that: it trusts": func(*fixture) {},
	} {
		f, _ := backAtRest(t, 1500)
		change(f)
		o := f.offer(7, 1, nil).offer
		s, err := f.newSlice(&o)
		f.ok(err)
		if trusts := s.sizing.rests; trusts != (name == "nothing of that: it trusts") {
			t.Errorf("%s: trusts %t", name, trusts)
		}
		s.end()
	}
	f, p := backAtRest(t, 1500)
	f.doubtPath()
	if f.pass(2*TickEvery, p...); p[0].probes == 0 {
		t.Error("in another network what was taken for known stays so")
	}
}

// TestNewSliceBeginsWithTheNarrowest path of those that were measured, whichever is looked at
// last: the session has its MTU, and a wider one would have the new slice search.
func TestNewSliceBeginsWithTheNarrowest(t *testing.T) {
	f := newFixture(t)
	f.connect()
	paths := []*sizedPath{f.sized(0, 1500), f.sized(1, 1400)}
	for n := uint8(2); n < 6; n++ {
		paths = append(paths, f.sized(n, 1500))
	}
	f.pass(10*time.Second, paths...)
	for range 50 { // each looks at the slices in another order
		if f.notePath(); f.path.Size() != pmtu.Inner(1400, false) {
			t.Fatalf("it begins with %d bytes", f.path.Size())
		}
	}
	late := f.sized(6, 1400)
	late.sizing.search = pmtu.Like(&f.path, false)
	if f.pass(2*time.Second, append(paths, late)...); late.probes != 2 {
		t.Errorf("%d packets, where two say all", late.probes)
	}
}
