package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/ask"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// answer takes the agent's offer and answers it; it returns the new keys.
func (c *customer) answer() (next *mka.Keys) {
	c.Helper()
	for next == nil {
		body := c.control()
		if body[0] != probe.KindPrekeyPart {
			c.Fatalf("control message %d, want an offer", body[0])
		}
		parts, keys, err := c.machine.OfferPart(c.Agent.config.Random, body[1:], 5000)
		c.ok(err)
		next = keys
		c.send(parts)
	}
	return next
}

func (c *customer) send(parts [][]byte) {
	c.Helper()
	for _, p := range parts {
		c.ok(c.pair.SendControl(append([]byte{probe.KindAcceptPart}, p...)))
	}
}

// TestUsedKeysAreSettled: what answers a repeated Accept is kept no longer than the client
// may need it. TestLostConfirmIsSaidAgain shows that of a rekey.
func TestUsedKeysAreSettled(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	s := f.slices.byKey[c.sliceKey()]
	f.until("the slice is up", func() bool { f.advance(TickEvery); return s.up })
	if _, _, err := s.machine.Accept(c.accept); !errors.Is(err, mka.ErrPrekey) {
		t.Errorf("the accept again: %v", err)
	}
}

// TestOneAtRestLeavesNoTrail: what its client has proven is the way in use, once it rests.
func TestOneAtRestLeavesNoTrail(t *testing.T) {
	f := newFixture(t).ready()
	s := f.slices.byKey[f.customer(f.offered()[0], nil).up().sliceKey()]
	trod := reflect.ValueOf(s.pair).Elem().FieldByName("trod").FieldByName("v")
	if trod.IsNil() {
		t.Fatal("no trail of a client that has just come")
	}
	f.advance(dataplane.MaxWays*dataplane.WayEvery + 2*LookEvery)
	f.until("the trail is forgotten", func() bool { f.advance(LookEvery); return trod.IsNil() })
}

// TestLostConfirmIsSaidAgain: the agent repeats its offer until the new keys
// are used, the client its answer, and that fetches the confirm.
func TestLostConfirmIsSaidAgain(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.Agent.rekeyAfter = 10 * time.Second
	f.advance(10*time.Second + TickEvery)
	next := c.answer()
	s := f.slices.byKey[c.sliceKey()]
	f.until("the agent has the new keys", func() bool { return s.next != nil })
	for lost := false; !lost; {
		lost = c.control()[0] == probe.KindConfirm
	}
	f.advance(RekeyRetry)
	var parts [][]byte
	for confirmed := false; !confirmed; {
		switch body := c.control(); body[0] {
		case probe.KindPrekeyPart:
			again, keys, err := c.machine.OfferPart(f.Agent.config.Random, body[1:], 5001)
			if err != nil || keys != nil {
				t.Fatalf("the same offer again: %v, new keys %v", err, keys != nil)
			}
			parts = append(parts, again...)
			c.send(again)
		case probe.KindConfirm:
			f.ok(c.machine.RekeyConfirm(body[1:]))
			confirmed = true
		}
	}
	c.pair = c.seal(*next)
	f.ok(c.pair.SendControl(probe.Ask(1, 0)))
	f.until("the client's use is noticed", func() bool { f.advance(TickEvery); return s.next == nil })
	if _, _, err := s.machine.AcceptPart(parts[0]); !errors.Is(err, mka.ErrOrder) {
		t.Errorf("an answer whose keys are in use is kept: %v", err)
	}
}

// TestKeysAreAsOldAsTheirBirth: keys that were agreed long before their first
// use do not live longer for it.
func TestKeysAreAsOldAsTheirBirth(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.Agent.rekeyAfter = 10 * time.Second
	f.advance(10*time.Second + TickEvery)
	next := c.answer()
	s := f.slices.byKey[c.sliceKey()]
	f.until("the agent has the new keys", func() bool { return s.next != nil })
	born := f.Agent.config.Now()
	f.Agent.rekeyAfter = time.Hour
	f.keep(4 * time.Minute)
	c.pair = c.seal(*next)
	f.ok(c.pair.SendControl(probe.Ask(1, 0)))
	f.until("the client uses them", func() bool { return s.next == nil || s.next.LastHeard() != 0 })
	f.advance(TickEvery)
	if s.since != born || s.pair.Ends != int64(born+KeysEnd) {
		t.Errorf("born at %v, counted from %v, end at %v", born, s.since, time.Duration(s.pair.Ends))
	}
	if s.older == nil || s.older.Ends > s.pair.Ends {
		t.Error("the older keys end after the newer")
	}
}

// TestKeyMaterialIsWiped: the share once it is used, keys once the SAs are made
// of them, the machine's secrets when the slice ends (I1).
func TestKeyMaterialIsWiped(t *testing.T) {
	f := newFixture(t).ready()
	var seen []esp.Key
	f.Agent.config.KeyLog = func(_ uint32, k esp.Key) {
		if k.Equal(esp.Key{}) {
			t.Error("the key log of test builds gets nothing")
		}
		seen = append(seen, k)
	}
	c := f.customer(f.offered()[0], nil)
	m := &protocol.Grant{Grant: c.signed, Share: bytes.Clone(c.share[:])}
	f.hear(&protocol.Node{Grant: m})
	if !bytes.Equal(m.Share, make([]byte, len(m.Share))) {
		t.Error("the share stays in the message")
	}
	f.ok(c.socket.Send(c.accept, len(c.accept), link.Path{Remote: outer(own)}))
	f.ok(c.machine.Confirm(c.receive()))
	c.ping()
	for _, k := range seen {
		if !k.Equal(esp.Key{}) {
			t.Error("a key stays in memory beside its SA")
		}
	}
	s := f.slices.byKey[c.sliceKey()]
	f.hear(&protocol.Node{Revoke: &protocol.Revoke{Slice: c.sliceKey().ref()}})
	if _, _, err := s.machine.Accept(c.accept); !errors.Is(err, mka.ErrOrder) || len(seen) != 2 {
		t.Errorf("the machine of a slice that ended answers: %v; %d keys seen", err, len(seen))
	}
}

// TestKeysEndBeforeTheirOwnerNotices: a worker that runs before the loop does
// neither opens nor seals past 15 minutes, and neither does the loop.
func TestKeysEndBeforeTheirOwnerNotices(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up() // nobody ticked: the rule of standing still is off
	f.clock.Add(int64(KeysEnd) - 1)
	c.ping()
	f.clock.Add(1)
	f.ok(c.pair.SendControl(probe.Ask(2, 0)))
	f.until("the packet is dropped", func() bool {
		return f.Agent.config.Engine.Stats().Dropped[dataplane.DropExhausted] == 1
	})
	pair := f.slices.byKey[c.sliceKey()].pair
	f.do(acceptPart{c.sliceKey(), nil}) // any event that waited
	if len(f.slices.byKey) != 0 {
		t.Error("an event was applied before keys were ended whose time is over")
	}
	if err := pair.SendControl(nil); err == nil {
		t.Error("keys that ended seal")
	}
}

// TestStandingStill: after a short stop the agent goes on, after a long one it
// gives up what others may have taken over (design 9).
func TestStandingStill(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.advance(TickEvery)
	stop := func(d time.Duration) {
		t.Helper()
		f.clock.Add(int64(d))
		stalled := func() uint64 { return f.Agent.config.Engine.Stats().Dropped[dataplane.DropStalled] }
		before := stalled()
		f.ok(c.pair.SendControl(probe.Ask(1, 0)))
		f.until("nothing is opened before the loop has run", func() bool { return stalled() == before+1 })
	}
	stop(dataplane.StallLimit + 1)
	f.tick()
	c.ping()
	stop(RestartAfter)
	f.do(stalled{})
	c.ping()
	if f.sound.wokeLately(f.Agent.config.Now()) {
		t.Error("a short stop excuses that no arbiter is heard")
	}
	if stop(RestartAfter + 1); len(f.slices.byKey) != 1 {
		t.Fatal("dropped too early")
	}
	f.do(asked{ask.New(func() {})}) // whatever comes first
	if len(f.slices.byKey) != 0 {
		t.Error("slices outlive a long stop")
	}
	if now := f.Agent.config.Now(); !f.sound.wokeLately(now+WakeGrace-1) || f.sound.wokeLately(now+WakeGrace) {
		t.Error("a long stop excuses that for another time than WakeGrace")
	}
	if stood := f.Agent.config.Engine.Tick(); stood != 0 {
		t.Error("the engine was not resumed")
	}
	f.until("the stream is opened anew", f.line.isClosed)
}

// TestStallIsNeverMissed: the word of the packet engine may be lost in a full
// queue; the engine goes on all the same.
func TestStallIsNeverMissed(t *testing.T) {
	f := newFixture(t).ready()
	f.advance(TickEvery)
	for len(f.events) < MaxEvents {
		f.events <- nodeDatagram{}
	}
	f.clock.Add(int64(dataplane.StallLimit) + 1)
	f.Stalled(dataplane.StallLimit + 1)
	f.hear(&protocol.Node{Alive: &protocol.Alive{}})
	if stood := f.Agent.config.Engine.Tick(); stood != 0 {
		t.Errorf("still stopped, for %v", stood)
	}
}

// TestMaxForged: a key under which so many packets failed is renewed, and the
// arbiter is told once (I10).
func TestMaxForged(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	s := f.slices.byKey[c.sliceKey()]
	first := s.pair
	violations := func() []*protocol.Violation {
		return saying(f, func(m *protocol.Node) *protocol.Violation { return m.Violation })
	}
	const most = 50
	if f.forgedMost != MaxForged {
		t.Errorf("the limit is %d", f.forgedMost)
	}
	f.forgedMost = most
	forge := func(n uint64) {
		packet := make([]byte, 36)
		binary.BigEndian.PutUint32(packet, first.In.SPI())
		packet[7], packet[15] = 200, 200 // what the window has not passed
		want := first.Forged() + n
		for range n {
			f.ok(c.socket.Send(packet, len(packet), link.Path{Remote: outer(own)}))
		}
		f.until("they are refused", func() bool { return first.Forged() == want })
	}
	forge(most - 1)
	f.advance(LookEvery)
	if s.offer != nil || len(violations()) != 0 {
		t.Fatal("renewed below the limit")
	}
	forge(1)
	f.advance(LookEvery)
	if n := violations(); s.offer == nil || len(n) != 1 || n[0].Reason != forgedUnderOneKey || n[0].Count != most {
		t.Errorf("an offer %v, violations %+v", s.offer != nil, n)
	}
}
