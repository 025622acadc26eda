package dataplane

import (
	"net/netip"
	"runtime"
	"testing"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// wayOf is a way to one of a peer's ports.
func wayOf(s link.Socket, port int) way {
	return way{s, link.Path{Remote: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), uint16(port))}}
}

// TestNewWayHasProvenNothing: it takes the place of another one, and nothing of
// what that one has shown.
func TestNewWayHasProvenNothing(t *testing.T) {
	var ways trail
	s := newFakeSocket()
	for port := range MaxWays {
		k := ways.at(wayOf(s, 1+port), nil, 1)
		k.question(1)
		k.came(s, 1000, 1)
		k.proven = true
	}
	k := ways.at(wayOf(s, 999), nil, int64(WayEvery)+1)
	if k == nil || k.way.path != wayOf(s, 999).path {
		t.Fatalf("there was no room: %+v", k)
	}
	if k.proven || k.token != (probe.Token{}) || k.asked != 0 || k.unsure.left.Load() != 0 {
		t.Errorf("a new way has %+v and may have %d bytes", k, k.unsure.left.Load())
	}
}

// TestProofGrowsOld: a way stays proven for ProvenFor after its last packet. Its
// address may be somebody else's by then.
func TestProofGrowsOld(t *testing.T) {
	var ways trail
	s := newFakeSocket()
	k := ways.at(wayOf(s, 1), nil, 1)
	k.proven = true
	now := 1 + int64(ProvenFor)
	if k.came(s, 100, now); !k.proven {
		t.Error("proven no more within its time")
	}
	if k.came(s, 100, now+int64(ProvenFor)+1); k.proven {
		t.Error("proven still after its time")
	}
}

// TestTokenEnds: a question is answered within twice TokenLife, or not at all. Who
// finds an old one learns no way to move a client by.
func TestTokenEnds(t *testing.T) {
	var ways trail
	k := ways.at(wayOf(newFakeSocket(), 1), nil, 1)
	if k.waits(k.token, 1) {
		t.Error("a question that was never asked counts")
	}
	k.question(1)
	last := 1 + 2*int64(TokenLife)
	if !k.waits(k.token, last) || k.waits(k.token, last+1) {
		t.Errorf("in time: %t, too late: %t", k.waits(k.token, last), k.waits(k.token, last+1))
	}
}

// TestOneWayTakesLittle: almost every client has one way, and there are ten thousand. Once it
// has proven that way, the way is all that is kept.
func TestOneWayTakesLittle(t *testing.T) {
	const pairs, most, mostAtRest = 500, 400, 100
	s := newFakeSocket()
	var held [pairs]*Pair
	living := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for i := range held {
		held[i] = &Pair{Agent: true}
	}
	before := living()
	for i, p := range held {
		if !p.Begin(s, wayOf(s, 1+i).path, 100, 1) {
			t.Fatal("not begun")
		}
	}
	each := (living() - before) / pairs
	for _, p := range held {
		p.prove()
		p.Forget(2 + int64(MaxWays*WayEvery))
	}
	rest := (living() - before) / pairs
	t.Logf("%d bytes, %d at rest", each, rest)
	if each > most || rest > mostAtRest {
		t.Errorf("a pair's one way takes %d bytes, at most %d, and %d at rest, at most %d", each, most, rest, mostAtRest)
	}
	runtime.KeepAlive(&held)
}

// prove has the echo of the pair's first way come.
func (p *Pair) prove() {
	k := p.trail().ways[0]
	k.proven = true
	p.take(p.trail(), k, p.way.Load(), 1)
}

// TestForgottenWayIsStillKnown: a trail that was forgotten said nothing but the way in use.
// Whatever it says beside is kept, and the way in use stays proven when the peer leaves it.
func TestForgottenWayIsStillKnown(t *testing.T) {
	const rested = 2 + int64(MaxWays*WayEvery)
	s := newFakeSocket()
	for name, c := range map[string]struct {
		step func(p *Pair)
		now  int64
		gone bool
	}{
		"proven":                  {(*Pair).prove, rested, true},
		"proven, but just now":    {(*Pair).prove, rested - 1, false},
		"not proven":              {func(*Pair) {}, rested, false},
		"left since":              {func(p *Pair) { p.prove(); p.Leave() }, rested, false},
		"seen along another, too": {func(p *Pair) { p.prove(); p.roam(wayOf(s, 2), 100, 1) }, rested, false},
	} {
		p := &Pair{Agent: true}
		p.Begin(s, wayOf(s, 1).path, 100, 1)
		c.step(p)
		if p.Forget(c.now); (p.trod.Load() == nil) != c.gone {
			t.Errorf("%s: forgotten %t", name, !c.gone)
		}
	}
	p := &Pair{Agent: true}
	p.Begin(s, wayOf(s, 1).path, 100, 1)
	p.prove()
	p.Forget(rested)
	p.roam(wayOf(s, 2), 100, rested)
	all := p.trail().ways
	if len(all) != 2 || !all[0].proven || all[0].way != wayOf(s, 1) || all[1].proven {
		t.Fatalf("after another way was seen: %+v", all)
	}
	p.take(p.trail(), all[1], p.way.Load(), rested)
	if p.roam(wayOf(s, 1), 100, rested+int64(ProvenFor)); p.way.Load().path != wayOf(s, 1).path {
		t.Error("the way that was in use has to be proven anew")
	}
}

// TestNewTrailProvesNothing: it begins with the way in use only where that one is sure.
func TestNewTrailProvesNothing(t *testing.T) {
	s := newFakeSocket()
	guess := newKnown(wayOf(s, 1), 1)
	for _, inUse := range []*way{nil, {guess.unsure, guess.way.path}} {
		p := &Pair{Agent: true}
		p.way.Store(inUse)
		if ways := p.trail().ways; len(ways) != 0 {
			t.Errorf("with %+v in use it begins with %+v", inUse, ways[0])
		}
	}
	p := &Pair{Agent: true}
	p.way.Store(&guess.way)
	if ways := p.trail().ways; len(ways) != 1 || !ways[0].proven || ways[0].way.path != guess.way.path {
		t.Errorf("with a sure way in use it begins with %+v", ways)
	}
}
