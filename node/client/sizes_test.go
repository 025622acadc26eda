package client

import (
	"net/netip"
	"slices"
	"testing"
	"time"

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
	return p.sizing.heard == p.sizing.say || p.sizing.search.Size() >= q.Size
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
