package agent

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// ended reports whether a pair seals nothing more.
func ended(p *dataplane.Pair) bool {
	_, err := p.Out.Reserve(1, 1)
	return errors.Is(err, esp.ErrExhausted)
}

// TestSupersededKeysStop: when their linger is over, and all keys when the slice ends.
// A worker may still hold a table that names them (I2).
func TestSupersededKeysStop(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.Agent.rekeyAfter = 10 * time.Second
	f.advance(10*time.Second + TickEvery)
	next := c.answer()
	s := f.slices.byKey[c.sliceKey()]
	f.until("the agent has the new keys", func() bool { return s.next != nil })
	older := s.pair
	c.pair = c.seal(*next)
	f.ok(c.pair.SendControl(probe.Ask(1, 0)))
	f.until("the client uses them", func() bool { f.advance(TickEvery); return s.older != nil })
	if ended(older) {
		t.Error("the superseded keys end before their linger")
	}
	f.keep(RekeyLinger + TickEvery)
	if s.older != nil || !ended(older) {
		t.Error("the superseded keys still seal")
	}
	last := s.pair
	f.hear(&protocol.Node{Revoke: &protocol.Revoke{Slice: c.sliceKey().ref()}})
	if !ended(last) {
		t.Error("the keys of a slice that was revoked still seal")
	}
}

// TestFenceRises: an arbiter that was the highest once is refused after a higher one,
// also by a grant of its own term (I6).
func TestFenceRises(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil)
	f.obey(7)
	if ack := c.granted(); ack.Ok {
		t.Error("a grant of term 5 is taken after term 7")
	}
	f.obey(6)
	f.until("the older arbiter's stream is closed", f.line.isClosed)
	f.open()
	f.hear(&protocol.Node{Fence: &protocol.Fence{Incarnation: 2, Term: 1}})
	if f.line.isClosed() {
		t.Error("a restored mesh is refused for its low term")
	}
	f.obey(8)
	f.until("the arbiter from before the restoration is refused", f.line.isClosed)
}

// rekeyed takes both ends to where the egress has new keys and waits for the proof.
func (c *couple) rekeyed() *nodeLink {
	c.Helper()
	c.joined()
	l := c.egress.links.inUse[c.agent.self()]
	c.turn(headless / 4)
	c.until("the egress has new keys", func() bool {
		c.agent.advance(TickEvery)
		c.egress.pump()
		<-time.After(2 * time.Millisecond) // as in tick
		return l.next != nil
	})
	return l
}

// TestLinkNeedsTheProof: neither a Confirm nor that of a rekey counts by its form.
func TestLinkNeedsTheProof(t *testing.T) {
	c := newCouple(t)
	c.turn(TickEvery)
	c.answer(nil)
	coming := c.egress.links.coming[c.agent.self()]
	forged := append(dataplane.Marker{Type: dataplane.MarkerConfirm, SPI: coming.pair.In.SPI()}.Append(nil, nil), 0, 1)
	forged = append(forged, make([]byte, mka.ConfirmSize-len(forged))...)
	c.egress.do(linkConfirmed{coming.pair.In.SPI(), forged})
	if len(c.egress.links.inUse) != 0 || c.egress.Rejects()["confirm-refused"] != 1 {
		t.Fatalf("a forged Confirm counts; rejects %v", c.egress.Rejects())
	}

	c = newCouple(t)
	l := c.rekeyed()
	older, next := l.pair, l.next
	for _, body := range [][]byte{nil, append([]byte{0, 1, 0, 0, 0, 1}, make([]byte, 48)...)} {
		linkControl{l, probe.KindConfirm, body}.apply(c.egress.Agent)
		if l.pair != older || l.next != next {
			t.Fatal("switched by bytes that prove nothing")
		}
	}
}

// TestLinkKeysStop: those that a rekey superseded, and all when the link ends (I2).
func TestLinkKeysStop(t *testing.T) {
	c := newCouple(t)
	l := c.rekeyed()
	older := l.pair
	c.until("the egress seals under new keys", func() bool { return l.pair != older })
	if ended(older) {
		t.Error("the superseded keys end before their linger")
	}
	c.turn(RekeyLinger + TickEvery)
	if !ended(older) {
		t.Error("the superseded keys still seal")
	}
	last := l.pair
	c.egress.endLink(l)
	if !ended(last) {
		t.Error("the keys of a link that ended still seal")
	}
}

// TestLinkOfAnotherAgent: an arbiter may grant what it likes, but what was asked for
// one node does not become keys with another.
func TestLinkOfAnotherAgent(t *testing.T) {
	c := newCouple(t)
	c.turn(TickEvery)
	asked := c.asked()
	hello, err := mka.ParseHello(asked[0].Hello)
	c.egress.ok(err)
	third, boot := c.egress.key(), identity.BootID{3}
	_, prekey, err := mka.NewPrekey(c.egress.Agent.config.Random, third, boot, esp.MakeSPI(3, 900), 600)
	c.egress.ok(err)
	signed := mka.SignGrant(c.egress.arbiter, mka.Grant{
		Version: mka.Version, Incarnation: 1, Term: 5, Session: hello.Request, Epoch: 1, Suite: hello.Suites[0], Weight: 1,
		Mode: protocol.ModeLink, Agent: third.ID(), AgentKey: third.Public(), Boot: boot, SPI: esp.MakeSPI(3, 900),
		SessionKey: hello.SessionKey, IdentityHash: [32]byte(c.egress.self()), HelloHash: mka.HashHello(asked[0].Hello),
	})
	share := bytes.Repeat([]byte{9}, 32)
	c.egress.hear(&protocol.Node{Offer: &protocol.LinkOffer{Peer: c.agent.self(), Grant: signed, Prekey: prekey, Share: share}})
	if n := len(c.egress.links.all()); n != 0 {
		t.Errorf("%d links", n)
	}
	if !bytes.Equal(share, make([]byte, len(share))) {
		t.Error("the share stays in the message")
	}
}
