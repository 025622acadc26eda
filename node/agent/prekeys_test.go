package agent

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

func prekeys(m *protocol.Node) *protocol.Prekeys { return m.Prekeys }

// use takes so many of the offered prekeys, as grants do.
func (f *fixture) use(count int) {
	f.Helper()
	for spi, k := range f.prekeys.secrets {
		if count == 0 {
			return
		}
		if k.series == f.prekeys.series {
			f.prekeys.take(spi)
			count--
		}
	}
	if count > 0 {
		f.Fatalf("%d prekeys too few", count)
	}
}

// keep lets time pass by seconds while the arbiter is heard.
func (f *fixture) keep(d time.Duration) {
	for ; d > 0; d -= time.Second {
		f.advance(time.Second)
		f.hear(&protocol.Node{Alive: &protocol.Alive{}})
	}
}

// fill lets the pool become full.
func (f *fixture) fill() {
	for f.advance(TickEvery); f.prekeys.filling; f.advance(TickEvery) {
	}
}

// TestUnusedPrekeysAreReplaced: what the arbiter can grant no more, the agent does not
// count on, and makes others.
func TestUnusedPrekeysAreReplaced(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	first := f.offered()
	var unused []uint32
	for _, sp := range first[:MinPrekeys/2+1] {
		unused = append(unused, spiOf(t, sp))
	}
	f.hear(&protocol.Node{Unused: &protocol.Unused{SPIs: append(unused, 99)}}) // and one that it never had
	if f.prekeys.secrets[unused[0]].secret != nil {
		t.Error("what is granted to nobody is kept")
	}
	if f.advance(TickEvery); len(f.offered()) < len(unused) {
		t.Error("no others are made")
	}
}

// TestPrekeysFollowTheStream: a new stream gets a new pool, half of it is
// enough, and it is offered anew before it dies.
func TestPrekeysFollowTheStream(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	first := f.offered()
	if len(first) != MinPrekeys {
		t.Fatalf("%d prekeys at the start", len(first))
	}
	f.obey(6)
	second := f.offered()
	if f.prekeys.secrets[spiOf(t, first[0])].secret != nil || len(second) != MinPrekeys {
		t.Error("prekeys of an older stream can still be granted")
	}
	f.advance(PrekeyBusy)
	for _, sp := range second[:MinPrekeys/2] {
		f.prekeys.take(spiOf(t, sp))
	}
	if f.advance(TickEvery); len(f.offered()) != 0 {
		t.Error("refilled although half is left")
	}
	f.prekeys.take(spiOf(t, second[MinPrekeys-1]))
	if f.advance(TickEvery); len(f.offered()) != MinPrekeys/2+1 || f.prekeys.offered() != MinPrekeys {
		t.Error("not refilled below half")
	}
	old, stale := second[MinPrekeys-2], second[MinPrekeys-3]
	for f.prekeys.series == 2 {
		f.keep(time.Second)
	}
	fresh := saying(f, prekeys)
	if len(fresh) != 1 || !fresh[0].Fresh || len(fresh[0].Keys) != MinPrekeys {
		t.Fatalf("not offered anew at half life: %d messages", len(fresh))
	}
	if ack := f.customer(old, nil).granted(); !ack.Ok {
		t.Errorf("a grant under way at the renewal is refused: %s", ack.Reason)
	}
	f.keep(PrekeyGrace + time.Second)
	if ack := f.customer(stale, nil).granted(); ack.Ok {
		t.Error("a prekey outlives its series")
	}
}

// TestPrekeyOutlivesNoLife: without an arbiter nothing is renewed, and
// prekeys die at their own time.
func TestPrekeyOutlivesNoLife(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	f.do(streamLost{f.Agent.stream})
	f.clock.Add(int64(PrekeyLife) - int64(TickEvery))
	if f.advance(TickEvery); f.prekeys.offered() != MinPrekeys {
		t.Error("died early")
	}
	if f.advance(TickEvery); len(f.prekeys.secrets) != 0 {
		t.Errorf("%d live longer than %v", len(f.prekeys.secrets), PrekeyLife)
	}
}

// TestPoolGrowsWithDemand: drained below half within PrekeyBusy it doubles, up
// to the cap; drained slowly it stays.
func TestPoolGrowsWithDemand(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	f.advance(PrekeyBusy)
	f.use(MinPrekeys/2 + 1)
	f.fill()
	if f.prekeys.size != MinPrekeys {
		t.Fatalf("%d after a slow drain", f.prekeys.size)
	}
	f.advance(PrekeyBusy - 2*TickEvery)
	f.use(MinPrekeys/2 + 1)
	f.fill()
	if f.prekeys.size != 2*MinPrekeys || f.prekeys.offered() != 2*MinPrekeys {
		t.Fatalf("%d of %d after a fast drain", f.prekeys.offered(), f.prekeys.size)
	}
	f.offered()
	f.use(MinPrekeys + 1)
	f.fill()
	if f.prekeys.size != 4*MinPrekeys || f.prekeys.offered() != 4*MinPrekeys {
		t.Fatalf("%d of %d after another", f.prekeys.offered(), f.prekeys.size)
	}
	for _, said := range saying(f, prekeys) {
		if len(said.Keys) > PrekeyBatch || said.Fresh {
			t.Errorf("I10: %d keys made in one tick", len(said.Keys))
		}
	}
	p := &prekeyPool{size: MaxPrekeys / 2}
	for range 2 {
		if p.grow(0); p.size != MaxPrekeys {
			t.Errorf("I10: %d at the cap", p.size)
		}
	}
}

// TestRushLeavesFewPrekeys: a crowd that takes a hundred a second is given what it takes, and
// not a pool for ten seconds of it.
func TestRushLeavesFewPrekeys(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	f.fill()
	const ticks, each, most = 80, 10, 512
	for n := range ticks {
		if f.use(each); f.prekeys.offered() == 0 {
			t.Fatal("there is none left to grant")
		}
		if f.advance(TickEvery); n%10 == 0 {
			f.hear(&protocol.Node{Alive: &protocol.Alive{}})
		}
	}
	if left := f.prekeys.offered(); left > most {
		t.Errorf("%d prekeys are left of a rush that took %d, at most %d", left, ticks*each, most)
	}
}

// TestLatestPrekeysAreKeptWhole: MaxYoung of them, while clients come.
func TestLatestPrekeysAreKeptWhole(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	f.prekeys.size, f.prekeys.filling = MaxYoung+2*PrekeyBatch, true
	f.fill()
	whole := func() (count int) {
		for _, k := range f.prekeys.secrets {
			if k.secret.Compact() {
				count++
			}
		}
		return count
	}
	if n := whole(); n != MaxYoung {
		t.Errorf("%d of %d are whole, want %d", n, len(f.prekeys.secrets), MaxYoung)
	}
	f.use(f.prekeys.size)
	f.fill()
	f.keep(PrekeyYoung + 2*time.Second)
	if n := whole(); n != 0 {
		t.Errorf("%d are whole with nobody there", n)
	}
}

// TestRingKeepsTheLatest: not the first ones that came, and nothing once it is empty.
func TestRingKeepsTheLatest(t *testing.T) { // I10
	f := newFixture(t)
	var r ring
	var all []*mka.PrekeySecret
	for range MaxYoung + 3 {
		k, err := f.Agent.makePrekey(1)
		f.ok(err)
		all = append(all, k.secret)
		r.add(k.secret)
	}
	if len(r.secrets) != MaxYoung {
		t.Errorf("%d are kept", len(r.secrets))
	}
	for i, secret := range all[:6] {
		if whole := secret.Compact(); whole != (i >= 3) {
			t.Errorf("prekey %d is whole: %t", i, whole)
		}
	}
	r.empty()
	if len(r.secrets) != 0 || slices.ContainsFunc(all, (*mka.PrekeySecret).Compact) {
		t.Errorf("%d are kept of an empty ring", len(r.secrets))
	}
}

// TestPrekeysEndWithTheirPool: whatever takes one out, nothing is left of its private key, though
// the latest are held for a while longer (I1).
func TestPrekeysEndWithTheirPool(t *testing.T) {
	for name, ends := range map[string]func(f *fixture, all []uint32){
		"their time is over": func(f *fixture, _ []uint32) {
			f.do(streamLost{f.Agent.stream})
			f.clock.Add(int64(PrekeyLife))
			f.advance(TickEvery)
		},
		"granted to nobody": func(f *fixture, all []uint32) { f.hear(&protocol.Node{Unused: &protocol.Unused{SPIs: all}}) },
		"a new stream":      func(f *fixture, _ []uint32) { f.obey(6) },
	} {
		f := newFixture(t)
		f.obey(5)
		var all []uint32
		held := make(map[uint32]*mka.PrekeySecret)
		for spi, k := range f.prekeys.secrets {
			all, held[spi] = append(all, spi), k.secret
		}
		ends(f, all)
		for spi, secret := range held {
			if f.prekeys.secrets[spi].secret == secret || secret.Usable() || secret.Compact() {
				t.Fatalf("%s: %#x is pooled, or has its key still", name, spi)
			}
		}
		if len(held) != MinPrekeys {
			t.Errorf("%s: %d prekeys", name, len(held))
		}
	}
}

// TestOfferedRekeyIsSmall: its client may be away for as long as the keys last.
func TestOfferedRekeyIsSmall(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	s := f.slices.byKey[c.sliceKey()]
	f.offerRekey(s, f.Agent.config.Now())
	secret := reflect.ValueOf(s.machine).Elem().FieldByName("waiting").Elem().FieldByName("secret").Elem()
	if s.offer == nil || !secret.FieldByName("alive").Bool() || !secret.FieldByName("expanded").IsNil() {
		t.Error("the private key is kept as it was made")
	}
}

// TestPoolShrinksSlowly: by half for each series of which less than a quarter
// was used, never below the least.
func TestPoolShrinksSlowly(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	f.prekeys.size = 4 * MinPrekeys
	f.prekeys.filling = true
	f.fill()
	series := func(used, want int) {
		t.Helper()
		f.use(used)
		f.said = nil
		for number := f.prekeys.series; f.prekeys.series == number; {
			f.prekeys.quiet = spell{f.prekeys.taken, f.Agent.config.Now()} // somebody comes now and then
			f.keep(time.Second)
		}
		if f.prekeys.size != want {
			t.Errorf("%d after a series of which %d were used, want %d", f.prekeys.size, used, want)
		}
		if fresh := saying(f, prekeys); len(fresh) != 1 || !fresh[0].Fresh || len(fresh[0].Keys) != want {
			t.Errorf("said %d times", len(fresh))
		}
	}
	series(MinPrekeys, 4*MinPrekeys) // a quarter
	series(MinPrekeys-1, 2*MinPrekeys)
	series(0, MinPrekeys)
	series(0, MinPrekeys)
}

// TestPoolOfARushIsGivenBack: a minute after the last grant the arbiter has the least of
// this agent, and so has the agent itself when no grant can be under way any more.
func TestPoolOfARushIsGivenBack(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	f.prekeys.size, f.prekeys.filling = 8*MinPrekeys, true
	f.fill()
	f.use(1)
	f.said = nil
	f.keep(PrekeyRest - time.Second)
	if f.prekeys.offered() < 8*MinPrekeys-1 {
		t.Fatalf("%d offered before the pool has rested", f.prekeys.offered())
	}
	f.keep(2 * time.Second)
	if fresh := saying(f, prekeys); len(fresh) != 1 || !fresh[0].Fresh || len(fresh[0].Keys) != MinPrekeys || f.prekeys.offered() != MinPrekeys {
		t.Errorf("said %d times, %d offered", len(fresh), f.prekeys.offered())
	}
	f.keep(PrekeyGrace + time.Second)
	if len(f.prekeys.secrets) != MinPrekeys {
		t.Errorf("%d are held", len(f.prekeys.secrets))
	}
	f.said = nil
	f.keep(2 * PrekeyRest)
	if again := saying(f, prekeys); len(again) != 0 {
		t.Errorf("a pool that is at the least already is renewed %d times", len(again))
	}
}

// TestSeriesIsReplacedWhole: the arbiter is never left with a part of a pool,
// however long the next takes.
func TestSeriesIsReplacedWhole(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	f.prekeys.size, f.prekeys.filling = 4*MinPrekeys, true
	f.fill()
	f.use(MinPrekeys)
	f.said = nil
	f.prekeys.renewal = f.Agent.config.Now() + TickEvery
	for range 4*MinPrekeys/PrekeyBatch - 1 {
		f.advance(TickEvery)
		if said := saying(f, prekeys); len(said) != 0 || f.prekeys.offered() != 3*MinPrekeys {
			t.Fatalf("half a series was said: %d", len(said))
		}
	}
	f.advance(TickEvery)
	if said := saying(f, prekeys); len(said) != 1 || len(said[0].Keys) != 4*MinPrekeys || f.prekeys.offered() != 4*MinPrekeys {
		t.Errorf("%d messages, %d offered", len(said), f.prekeys.offered())
	}
	f.obey(6) // in the middle of nothing
	if got := len(f.offered()); got != MinPrekeys || len(f.prekeys.coming) != 0 {
		t.Errorf("a new stream begins with %d", got)
	}
	if f.advance(2 * TickEvery); f.prekeys.offered() != MinPrekeys {
		t.Errorf("%d are made for an arbiter that has granted none", f.prekeys.offered())
	}
}

func TestMaxPrekeys(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	k := f.prekeys.secrets[spiOf(t, f.offered()[0])]
	k.series = 0
	for spi := uint32(1); len(f.prekeys.secrets) < 2*MaxPrekeys; spi++ {
		f.prekeys.secrets[spi] = k
	}
	if keys := f.poolPrekeys(1, f.prekeys.series); len(keys) != 0 || len(f.prekeys.secrets) != 2*MaxPrekeys {
		t.Errorf("I10: %d prekeys beyond the limit", len(keys))
	}
	delete(f.prekeys.secrets, 1)
	if keys := f.poolPrekeys(2, f.prekeys.series); len(keys) != 1 {
		t.Errorf("%d prekeys at the limit, room for one", len(keys))
	}
	if f.prekeys.take(1) != nil || f.prekeys.take(2) == (*mka.PrekeySecret)(nil) {
		t.Error("a secret that is gone is given out, or one that is there is not")
	}
}
