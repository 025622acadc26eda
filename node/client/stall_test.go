package client

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// asleep lets time pass in which this process does not run.
func (f *fixture) asleep(d time.Duration) { f.clock.Add(int64(d)) }

// TestKeysEnd: a slice whose agent never renews its keys ends at 15 minutes,
// to the tick, and the arbiter hears of it.
func TestKeysEnd(t *testing.T) {
	f := newFixture(t)
	f.connect()
	s, other := f.slice(0, 1), f.slice(1, 1)
	other.pair.Ends = int64(time.Hour + 2*dataplane.KeyLife)
	sleepless := func(d time.Duration) {
		for ; d > 0; d -= 5 * TickEvery { // within what the rule of standing still allows
			f.clock.Add(int64(5 * TickEvery))
			s.pulse.restart(f.config.Now())
			other.pulse.restart(f.config.Now())
			f.tick()
			f.said()
		}
	}
	sleepless(dataplane.KeyLife - 5*TickEvery)
	f.clock.Store(int64(time.Hour+dataplane.KeyLife) - 1)
	if f.tick(); f.slices[s.key] != s {
		t.Fatal("ended too early")
	}
	f.clock.Add(1)
	f.tick()
	if f.slices[s.key] != nil || f.slices[other.key] == nil {
		t.Fatal("keys live longer than 15 minutes, or younger ones do not")
	}
	if err := s.pair.SendControl(nil); err == nil {
		t.Error("keys that ended seal")
	}
	if said := silences(f.said()); len(said) != 1 || said[0].Number != 0 || said[0].Reason != "keys too old" {
		t.Errorf("said %+v", said)
	}
}

// TestShortStop: nothing is opened until the loop has run; then the slices go
// on, and nobody is condemned for answers that were dropped meanwhile.
func TestShortStop(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a, b := f.slice(0, 1), f.slice(1, 1)
	f.tick()
	f.ask(a, f.config.Now())
	f.asleep(RestartAfter)
	f.ok(f.far[b.key].SendControl(probe.Ask(1, 0)))
	stalled := func() uint64 { return f.config.Engine.Stats().Dropped[dataplane.DropStalled] }
	f.until("nothing is opened before the loop has run", func() bool { return stalled() == 1 })
	f.tick()
	if len(f.slices) != 2 || a.condemned || f.control == nil || a.pulse.waiting != 0 {
		t.Errorf("%d slices left, condemned %v", len(f.slices), a.condemned)
	}
	f.speak(b)
}

// TestWakingUp: a laptop that slept longer than its keys live, and longer than
// headless time, drops them unused and asks for its session again at once.
func TestWakingUp(t *testing.T) {
	f := newFixture(t)
	f.connect()
	f.welcome(protocol.Welcome{Headless: 900})
	s := f.slice(0, 1)
	f.tick()
	f.asleep(20 * time.Minute)
	f.speaks(s.key, []byte{probe.KindPrekeyPart}) // waited in the queue
	f.pump()
	if len(f.slices) != 0 || f.control != nil || f.routed() != "null" {
		t.Fatalf("%d slices, route %s", len(f.slices), f.routed())
	}
	if err := s.pair.SendControl(nil); err == nil {
		t.Error("a key from before the sleep seals")
	}
	if why := <-f.redial; why != again {
		t.Error("the gateway was left, though nobody knows that it is silent")
	}
	held := make(chan []protocol.SliceRef, 1)
	f.turn(heldQuestion{held})
	if refs := <-held; len(refs) != 0 {
		t.Errorf("the resumption names %+v", refs)
	}
	if err := f.failure(); err != nil {
		t.Fatalf("ended by the time asleep: %v", err)
	}
	if stood := f.config.Engine.Tick(); stood != 0 {
		t.Error("the engine was not resumed")
	}
	f.connect()
	f.welcome(protocol.Welcome{Headless: 900})
	fresh := f.slice(0, 2)
	f.speak(fresh)
	if f.advance(TickEvery, fresh); f.routed() != `["0.2"]` {
		t.Errorf("route %s after the resumption", f.routed())
	}
}

// TestSleepIsForgivenOnce: whoever wakes up again and again without a word of
// an arbiter is headless all the same (I12).
func TestSleepIsForgivenOnce(t *testing.T) {
	f := newFixture(t)
	f.connect()
	f.welcome(protocol.Welcome{Headless: 60})
	f.tick()
	f.asleep(time.Hour)
	if f.tick(); f.failure() != nil {
		t.Fatal("ended by the time asleep")
	}
	f.asleep(time.Hour)
	f.tick()
	if err := f.failure(); !errors.Is(err, ErrHeadless) {
		t.Errorf("goes on without an arbiter: %v", err)
	}
}

// TestResumptionUnderWay: a connection that was being made when the process
// stood still has named slices that are gone; it is made again, once.
func TestResumptionUnderWay(t *testing.T) {
	f := newFixture(t)
	f.connect()
	f.welcome(protocol.Welcome{Headless: 900})
	f.slice(0, 1)
	f.tick()
	controlLost{f.control}.apply(f.Client)
	f.asleep(RestartAfter + 1)
	f.tick()
	<-f.redial
	f.connect()
	f.welcome(protocol.Welcome{Headless: 900}) // the arbiter believes that we hold a slice
	select {
	case <-f.redial:
	default:
		t.Fatal("left without a slice")
	}
	f.connect()
	f.welcome(protocol.Welcome{Headless: 900}) // no agent is free
	if len(f.redial) != 0 || f.control == nil {
		t.Error("connects again and again")
	}
}

// TestAgreedKeysHaveAnEnd: it counts from the agreement, not from the confirm.
func TestAgreedKeysHaveAnEnd(t *testing.T) {
	f := newFixture(t)
	f.connect()
	a := f.offer(0, 1, nil)
	f.takeOffer(&a.offer)
	if s := f.slices[sliceKey{0, 1}]; s.pair.Ends != int64(time.Hour+dataplane.KeyLife) {
		t.Errorf("the keys end at %v", time.Duration(s.pair.Ends))
	}
}

// TestKeyMaterialIsWiped: the share once it is used, keys once the SAs are made
// of them, the machine's secrets when the slice ends (I1).
func TestKeyMaterialIsWiped(t *testing.T) {
	f := newFixture(t)
	f.connect()
	var seen []esp.Key
	f.config.KeyLog = func(_ uint32, k esp.Key) { seen = append(seen, k) }
	a := f.offer(0, 1, nil)
	f.takeOffer(&a.offer)
	if !bytes.Equal(a.offer.Share, make([]byte, len(a.share))) {
		t.Error("the share stays in the message")
	}
	if len(seen) != 2 || !seen[0].Equal(esp.Key{}) || !seen[1].Equal(esp.Key{}) {
		t.Errorf("of %d keys one stays in memory beside its SA", len(seen))
	}
	s := f.slices[sliceKey{0, 1}]
	f.forget(s)
	if err := s.machine.Confirm(nil); !errors.Is(err, mka.ErrOrder) {
		t.Errorf("the machine of a slice that ended answers: %v", err)
	}
}

// TestStarvedClientFillsNoLog: that this process stood still is said some times in a row, then
// seldom and with how often it was not (I10).
func TestStarvedClientFillsNoLog(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	f.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	f.tick()
	stops := func(n int) (lines int) {
		log.Reset()
		for range n {
			f.asleep(dataplane.StallLimit + 1)
			f.tick()
		}
		return strings.Count(log.String(), "stood still")
	}
	if lines := stops(SaidFree); lines != SaidFree {
		t.Errorf("%d lines of the first %d", lines, SaidFree)
	}
	if lines := stops(10 * SaidFree); lines > 2 {
		t.Errorf("%d lines of %d more in a row", lines, 10*SaidFree)
	}
	f.asleep(2 * time.Minute)
	if f.tick(); !strings.Contains(log.String(), "times_not_said=1") {
		t.Errorf("later: %s", log.String())
	}
}
