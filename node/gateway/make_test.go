package gateway

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// TestConfirmedRowsOutliveAFlood: at the limit an unconfirmed row goes for a
// new one, a confirmed one never.
func TestConfirmedRowsOutliveAFlood(t *testing.T) {
	for name, c := range map[string]Config{"ports": {MaxPorts: 4}, "rows": {MaxRows: 4}} {
		r := newRig(t, c)
		r.send(client(0), packet(2, 100), 100)
		r.answer(0, nodeAt(2), packet(0, 100))
		for n := 1; n < 100; n++ {
			if !r.send(client(200*n), packet(2, 100), 100) {
				t.Fatalf("%s: client %d not forwarded", name, n)
			}
		}
		if s := r.g.Stats(); s.Rows != 4 || s.Confirmed != 1 {
			t.Errorf("%s: %+v", name, s)
		}
		for p := range r.ports {
			r.answer(p, nodeAt(2), packet(0, 100))
		}
		if r.send(client(200*101), packet(2, 100), 100) {
			t.Errorf("%s: a confirmed row went for an unconfirmed one", name)
		}
		r.wantDropped(DropFull, 1)
		if !r.send(client(0), packet(2, 100), 100) {
			t.Errorf("%s: the first confirmed row is gone", name)
		}
	}
}

func TestRowsOfOnePrefixAreRationed(t *testing.T) {
	r := newRig(t, Config{})
	at := func(n int) netip.AddrPort { return netip.AddrPortFrom(client(1).Addr(), uint16(1000+n)) }
	made := 0
	for n := range PrefixBurst + 10 {
		if r.send(at(n), packetOf(uint32(n)), 100) {
			made++
		}
	}
	if made != PrefixBurst {
		t.Errorf("%d rows at once, want %d", made, PrefixBurst)
	}
	r.wantDropped(DropRate, 10)
	if !r.send(client(300), packet(2, 100), 100) {
		t.Error("another prefix was rationed too")
	}
	r.now.Add(int64(time.Second))
	made = 0
	for n := range PrefixRate + 10 {
		if r.send(at(5000+n), packet(2, 100), 100) {
			made++
		}
	}
	if made != PrefixRate {
		t.Errorf("%d rows after a second, want %d", made, PrefixRate)
	}
}

func TestBucketsAreBounded(t *testing.T) {
	m := making{buckets: map[netip.Prefix]*bucket{}}
	for n := range MaxPrefixes + 50 {
		a := netip.AddrFrom4([4]byte{byte(n >> 16), byte(n >> 8), byte(n), 1})
		if prefix, _ := sourcePrefix(a); !m.allow(prefix, 0) {
			t.Fatal("a fresh prefix was refused")
		}
	}
	if len(m.buckets) != MaxPrefixes {
		t.Errorf("%d buckets, the limit is %d", len(m.buckets), MaxPrefixes)
	}
	m.rest(int64(time.Second))
	if len(m.buckets) != 0 {
		t.Errorf("%d buckets kept at rest", len(m.buckets))
	}
}

func TestIdleRowsGo(t *testing.T) {
	r := newRig(t, Config{})
	r.send(client(0), packet(2, 100), 100)
	r.send(client(1), packet(2, 100), 100)
	r.answer(0, nodeAt(2), packet(0, 100))
	r.now.Store(int64(IdleUnconfirmed))
	for range 100 { // a client's own packets keep nothing
		r.send(client(1), packet(2, 100), 100)
	}
	r.g.Tick()
	if s := r.g.Stats(); s.Rows != 2 {
		t.Errorf("at the limit: %+v", s)
	}
	r.now.Add(1)
	r.g.Tick()
	if s := r.g.Stats(); s.Rows != 1 || s.Confirmed != 1 {
		t.Errorf("unconfirmed past the limit: %+v", s)
	}
	r.now.Store(int64(IdleConfirmed))
	r.answer(0, nodeAt(2), packet(0, 100))
	r.now.Store(2 * int64(IdleConfirmed))
	r.send(client(0), packet(2, 100), 100)
	r.g.Tick()
	if s := r.g.Stats(); s.Rows != 1 {
		t.Errorf("answered within the limit: %+v", s)
	}
	r.now.Store(2*int64(IdleConfirmed) + 2)
	r.g.Tick()
	if s := r.g.Stats(); s.Rows != 0 || len(r.g.make.oldest) != 0 {
		t.Errorf("confirmed past the limit: %+v", s)
	}
	r.send(client(2), packet(2, 100), 100)
	if s := r.g.Stats(); s.Rows != 1 || s.Ports != 2 {
		t.Errorf("ports are not used again: %+v", s)
	}
}

func TestPortThatDoesNotOpen(t *testing.T) {
	r := newRig(t, Config{})
	r.fault = errors.New("no descriptors")
	r.send(client(0), packet(2, 100), 100)
	r.wantDropped(DropPort, 1)
	r.now.Store(int64(FaultShown))
	if err := r.g.Stats().PortFault; !errors.Is(err, r.fault) {
		t.Errorf("the fault is %v", err)
	}
	r.now.Add(1)
	if err := r.g.Stats().PortFault; err != nil {
		t.Errorf("after so long it is still said: %v", err)
	}
	r.send(client(0), packet(2, 100), 100)
	r.fault = nil
	if !r.send(client(0), packet(2, 100), 100) {
		t.Error("the gateway did not recover")
	}
	if err := r.g.Stats().PortFault; err != nil {
		t.Errorf("a port opened, and %v is said", err)
	}
}

func TestNodesMoveWithoutLosingRows(t *testing.T) {
	r := newRig(t, Config{})
	r.send(client(0), packet(2, 100), 100)
	moved := netip.MustParseAddrPort("192.0.2.22:6484")
	r.g.Publish(NewNodes([]Node{{Index: 2, Outer: moved, Alive: true}}))
	r.send(client(0), packet(2, 100), 100)
	if got := r.ports[0].sent[1].path.Remote; got != moved {
		t.Errorf("sent to %v", got)
	}
	if r.g.Stats().Rows != 1 {
		t.Error("the row was not kept")
	}
}
