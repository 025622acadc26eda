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

// TestOneWayTakesLittle: almost every client has one way, and there are ten thousand.
func TestOneWayTakesLittle(t *testing.T) {
	const pairs, most = 500, 400
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
	t.Logf("%d bytes", each)
	if each > most {
		t.Errorf("a pair's one way takes %d bytes, at most %d", each, most)
	}
	runtime.KeepAlive(&held)
}
