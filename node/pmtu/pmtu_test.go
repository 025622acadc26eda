package pmtu

import (
	"testing"
	"testing/quick"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

const (
	tickEvery = 50 * time.Millisecond
	patience  = 300 * time.Millisecond
)

// path is a link of one MTU, and the clock of a test.
type path struct {
	*testing.T
	*Search
	mtu, local int // inner sizes that pass, and that this host's link takes
	lossy      func() bool
	dead       bool // nothing passes, of any size
	now, heard time.Duration
	probes     int
}

func newPath(t *testing.T, outer int) *path {
	return &path{T: t, Search: New(false), mtu: Inner(outer, false), local: 1 << 16, now: time.Hour, lossy: func() bool { return false }}
}

// run lets time pass and answers what passes, one tick later.
func (p *path) run(d time.Duration, active bool) {
	p.Helper()
	for ; d > 0; d -= tickEvery {
		p.now += tickEvery
		if active && !p.dead {
			p.heard = p.now
		}
		sizes := p.Step(Tick{Now: p.now, Heard: p.heard, Patience: patience, Active: active})
		if len(p.attempts) > MaxAttempts {
			p.Fatalf("%d sizes under test", len(p.attempts))
		}
		for i, size := range sizes {
			p.probes++
			if i > 1 && size > sizes[i-1] { // a confirmation comes before the round
				p.Errorf("not the largest first: %v", sizes)
			}
			switch {
			case size > p.local:
				p.Refuse(size)
			case !p.dead && size <= p.mtu && !p.lossy():
				p.heard = p.now
				p.Pass(size, p.now)
			}
		}
	}
}

// TestInner: the sealed datagram of the size fits, that of one byte more does not.
func TestInner(t *testing.T) {
	for outer := 700; outer <= 9216; outer++ {
		for v6, headers := range map[bool]int{false: 28, true: 48} {
			n := Inner(outer, v6)
			if esp.SealedLen(n)+headers > outer || esp.SealedLen(n+1)+headers <= outer {
				t.Fatalf("outer %d, IPv6 %v: inner %d makes %d", outer, v6, n, esp.SealedLen(n)+headers)
			}
		}
	}
	if 2*Inner(Outers[0], true) < MinMTU+8 {
		t.Errorf("two datagrams of the smallest path hold less than %d bytes", MinMTU)
	}
}

// TestFindsEveryMTU: within three seconds, and one round trip for those that
// links have.
func TestFindsEveryMTU(t *testing.T) {
	for outer := Outers[0]; outer <= 9000; outer += 61 {
		p := newPath(t, outer)
		p.run(6*time.Second, true)
		if p.Size() > p.mtu || p.mtu-p.Size() > Grain || !p.Measured() || !p.Settled() {
			t.Errorf("outer %d: %d of %d", outer, p.Size(), p.mtu)
		}
	}
	for _, outer := range Outers {
		p := newPath(t, outer)
		p.run(tickEvery, true)
		if p.Size() != Inner(outer, false) {
			t.Errorf("outer %d: %d after the first round", outer, p.Size())
		}
	}
}

// TestOwnLinkAnswersAtOnce: what this host's own link refuses costs no waiting.
func TestOwnLinkAnswersAtOnce(t *testing.T) {
	p := newPath(t, 1300)
	p.local = p.mtu
	p.run(600*time.Millisecond, false)
	if p.mtu-p.Size() > Grain || !p.Settled() {
		t.Errorf("%d of %d", p.Size(), p.mtu)
	}
}

func TestLossIsNoLimit(t *testing.T) {
	p, n := newPath(t, 1500), 0
	p.lossy = func() bool { n++; return n%2 == 0 }
	p.run(30*time.Second, true)
	if p.Size() != p.mtu {
		t.Errorf("%d of %d", p.Size(), p.mtu)
	}
}

// TestBlackHole: a path that shrinks is noticed under traffic and measured anew,
// within two seconds; when it grows again that is found out later.
func TestBlackHole(t *testing.T) {
	p := newPath(t, 1500)
	p.run(3*time.Second, true)
	p.mtu = Inner(1400, false)
	p.run(2*time.Second, true)
	if p.Size() != p.mtu {
		t.Fatalf("%d of %d after the path shrank", p.Size(), p.mtu)
	}
	p.run(5*time.Second, true) // the gap between sizes of links
	p.mtu = Inner(1500, false)
	p.run(RaiseSoon-10*time.Second, true)
	if p.Size() >= p.mtu {
		t.Fatal("looked again too soon")
	}
	p.run(12*time.Second, true)
	if p.Size() != p.mtu {
		t.Errorf("%d of %d after the path grew", p.Size(), p.mtu)
	}
	p.mtu = Inner(9000, false)
	p.run(RaiseEvery+5*time.Second, true)
	if p.Size() != p.mtu {
		t.Errorf("%d of %d, ten minutes after the path grew", p.Size(), p.mtu)
	}
}

// TestSilenceShowsNothing: a path that is silent altogether has no new MTU.
func TestSilenceShowsNothing(t *testing.T) {
	p := newPath(t, 1500)
	p.run(3*time.Second, true)
	p.dead = true
	p.run(10*time.Second, true)
	if p.Size() != p.mtu {
		t.Errorf("%d of %d", p.Size(), p.mtu)
	}
}

// TestSilenceIsNotFlooded: a path that is silent is asked ever more seldom (I10),
// and measured at once when it is heard.
func TestSilenceIsNotFlooded(t *testing.T) {
	p := newPath(t, 1500)
	p.dead = true
	p.run(time.Minute, true)
	early := p.probes
	p.run(time.Hour, true)
	round := SearchTries * len(Outers)
	if rounds := int(time.Hour/MaxRest) + 1; early > 9*round || p.probes-early > rounds*round {
		t.Errorf("%d probes in the first minute, %d in the hour after it", early, p.probes-early)
	}
	p.dead = false
	p.run(3*tickEvery, true)
	if p.Size() != p.mtu {
		t.Errorf("%d of %d when it is back", p.Size(), p.mtu)
	}
}

// TestIdle: without traffic nothing is sent once the search is over.
func TestIdle(t *testing.T) {
	p := newPath(t, 1500)
	p.run(8*time.Second, true)
	p.probes = 0
	p.run(time.Hour, false)
	if p.probes != 0 {
		t.Errorf("%d probes on an idle path", p.probes)
	}
}

func TestMove(t *testing.T) {
	p := newPath(t, 1500)
	p.run(8*time.Second, true)
	p.mtu = Inner(1400, false)
	p.Move(false)
	if p.Size() != Inner(1500, false) {
		t.Error("the size is given up before the new path was asked")
	}
	p.run(2*time.Second, true)
	if p.Size() != p.mtu {
		t.Errorf("%d of %d on a smaller path", p.Size(), p.mtu)
	}
	p.mtu = Inner(9000, false)
	p.Move(false)
	p.run(200*time.Millisecond, false)
	if p.Size() != p.mtu {
		t.Errorf("%d of %d on a larger path", p.Size(), p.mtu)
	}
}

// TestOldAgent: who answers no padded probe at all, though heard, gets what
// there was before them; a path that shrinks below all sizes is no old agent.
func TestOldAgent(t *testing.T) {
	p := newPath(t, 1500)
	p.mtu = 0
	p.run(3*time.Second, true)
	if p.Size() != Legacy || p.Measured() {
		t.Errorf("%d, measured %v", p.Size(), p.Measured())
	}
	p = newPath(t, 1500)
	p.run(3*time.Second, true)
	p.mtu = 0
	p.run(5*time.Second, true)
	if p.Size() != Inner(Outers[0], false) {
		t.Errorf("%d on a path that carries next to nothing", p.Size())
	}
}

// TestAnyHistory: whatever comes back, the size is one that came back, the base
// or the least, and attempts stay bounded.
func TestAnyHistory(t *testing.T) {
	if err := quick.Check(func(history []uint16) bool {
		s, now := New(true), time.Hour
		came := map[int]bool{Inner(BaseOuter, true): true, Inner(Outers[0], true): true, Inner(Outers[0], false): true, Legacy: true}
		for _, h := range history {
			now += tickEvery
			size := int(h >> 2)
			switch h & 3 {
			case 0:
				s.Step(Tick{Now: now, Heard: now, Patience: patience, Active: true})
			case 1:
				came[size] = true
				s.Pass(size, now)
			case 2:
				s.Refuse(size)
			case 3:
				s.Move(h&4 != 0)
			}
			if !came[s.Size()] || len(s.attempts) > MaxAttempts {
				return false
			}
		}
		return true
	}, &quick.Config{MaxCount: 2000}); err != nil {
		t.Error(err)
	}
}

// TestAssumedSize is used before it is shown, and costs no probe; if it does not pass, what passes
// anywhere is used at once, and what the path carries when that was found.
func TestAssumedSize(t *testing.T) {
	wide := newPath(t, 1500)
	wide.run(6*time.Second, true)
	for _, v6 := range []bool{false, true} {
		s := Like(wide.Search, v6)
		if !s.Assume() || s.Size() != wide.Size() || s.Measured() {
			t.Errorf("%d bytes are assumed of %d, measured %t", s.Size(), wide.Size(), s.Measured())
		}
		if s.Refuse(wide.Size()); s.Size() != Inner(BaseOuter, v6) {
			t.Errorf("%d bytes after they were refused", s.Size())
		}
	}
	s := Like(wide.Search, false)
	s.Assume()
	s.Pass(wide.Size(), time.Second)
	if s.Refuse(s.top() - 1); s.Size() != wide.Size() {
		t.Errorf("%d bytes after a larger size was refused", s.Size())
	}
	if s := New(false); s.Assume() || s.Size() != Inner(BaseOuter, false) {
		t.Error("something is assumed where nothing is known")
	}
	p := newPath(t, 1400)
	p.Search = Like(wide.Search, false)
	p.Assume()
	if p.run(6*time.Second, true); p.Size() > p.mtu || p.mtu-p.Size() > Grain {
		t.Errorf("found %d of %d", p.Size(), p.mtu)
	}
}

// TestLikeAnotherPath: a path like one that is known costs one probe, and one that is not
// is measured all the same.
func TestLikeAnotherPath(t *testing.T) {
	for outer, probes := range map[int]int{9000: 1, 1500: 1, 1444: 1} {
		first := newPath(t, outer)
		first.run(6*time.Second, true)
		if first.probes < len(Outers) {
			t.Fatalf("the first took %d probes", first.probes)
		}
		next := newPath(t, outer)
		next.Search = Like(first.Search, false)
		if next.Size() != Inner(BaseOuter, false) || next.Measured() {
			t.Errorf("outer %d: %d bytes are believed before anything was shown", outer, next.Size())
		}
		next.run(300*time.Millisecond, true) // before it is time to show it again
		if next.Size() != first.Size() || !next.Settled() || next.probes != probes {
			t.Errorf("outer %d: %d bytes after %d probes, settled %v; want %d", outer, next.Size(), next.probes, next.Settled(), first.Size())
		}
	}
	wide := newPath(t, 1500)
	wide.run(6*time.Second, true)
	for outer, within := range map[int]time.Duration{1400: 6 * time.Second, 9000: RaiseSoon + 6*time.Second} {
		p := newPath(t, outer)
		p.Search = Like(wide.Search, false)
		p.run(within, true)
		if p.Size() > p.mtu || p.mtu-p.Size() > Grain {
			t.Errorf("outer %d: found %d of %d", outer, p.Size(), p.mtu)
		}
	}
	if s := Like(nil, true); s.Size() != Inner(BaseOuter, true) || len(s.candidates()) != len(Outers) {
		t.Error("where nothing is known it is no new search")
	}
}

// TestNarrower: what was shown counts, not what is assumed of an end that answers nothing; of
// two that carry the same it is the one on which less can be hoped for.
func TestNarrower(t *testing.T) {
	search := func(passed, failed int, settled bool) *Search {
		s := New(false)
		s.passed, s.failed, s.settled = passed, failed, settled
		return s
	}
	order := []*Search{search(1300, 1302, true), search(1438, 1439, true), search(1438, 1440, true), search(8938, 8939, true)}
	for i, s := range order {
		for j, other := range order {
			if s.Narrower(other) != (i < j) {
				t.Errorf("%d before %d: %v", s.passed, other.passed, i > j)
			}
		}
		for _, unknown := range []*Search{nil, New(false), search(0, 1301, true), search(1200, 1300, false)} {
			if !s.Narrower(unknown) || unknown.Narrower(s) || unknown.Narrower(nil) {
				t.Errorf("%+v counts beside %d", unknown, s.passed)
			}
		}
	}
}
