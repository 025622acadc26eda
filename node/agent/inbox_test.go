package agent

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// flood has a client say very much inside its SA, as its packet worker does.
func (c *customer) flood(messages int) {
	pair := c.Agent.slices.byKey[c.sliceKey()].pair
	for n := range messages {
		kind := []byte{probe.KindAcceptPart, probe.KindVerdict}[n%2]
		pair.Control(append([]byte{kind}, make([]byte, 64)...))
	}
}

// TestControlFloodOfOneClient: neither replies of nodes nor another client's
// messages are lost with it; what is lost of its own is counted.
func TestControlFloodOfOneClient(t *testing.T) {
	const messages = 200_000
	f := newFixture(t).ready()
	keys := f.offered()
	loud, calm := f.customer(keys[0], nil).up(), f.customer(keys[1], nil).up()
	f.pass(time.Second, 2)
	f.advance(TickEvery)
	loud.flood(messages)
	f.ReceiveMarked(nil, link.Path{}, dataplane.Marker{Type: dataplane.MarkerProbeReply},
		probe.Node{Type: probe.TypeReply, From: 2, Asked: probe.TypeNode, Sequence: f.probes.sequence}.Marshal(probeKey()))
	before := f.Rejects()
	f.slices.byKey[calm.sliceKey()].pair.Control([]byte{probe.KindAcceptPart, 1})
	if lost := before["control-full"]; lost != messages-MaxControlEach {
		t.Errorf("%d of the flood counted as lost, want %d", lost, messages-MaxControlEach)
	}
	if lost := f.Rejects()["control-full"] - before["control-full"]; lost != 0 {
		t.Error("the other client's message was lost")
	}
	first, _ := f.inband.Take()
	second, _ := f.inband.Take()
	if of, ok := second.(acceptPart); !ok || of.key != calm.sliceKey() {
		t.Errorf("after %T comes %T, not the other client's", first, second)
	}
	f.pump()
	if heard := f.probes.peers[2].heardAt; heard != f.Agent.config.Now() {
		t.Errorf("the node's reply was lost: heard at %v, now %v", heard, f.Agent.config.Now())
	}
	if n := len(f.events); n != 0 {
		t.Errorf("%d events of this node's own queue are taken", n)
	}
}

// TestRepliesThatWereNotAskedFor: a reply counts once, for the node, the number, the
// kind and the size that were asked, and for a second.
func TestRepliesThatWereNotAskedFor(t *testing.T) {
	f := newFixture(t).ready()
	f.pass(time.Second, 2, 3)
	refused := f.Rejects()["probe-unasked"]
	reply := func(what string, counts bool, m probe.Node) {
		t.Helper()
		m.Type = probe.TypeReply
		f.do(nodeDatagram{m})
		if !counts {
			refused++
		}
		if n := f.Rejects()["probe-unasked"]; n != refused {
			t.Errorf("%s: %d refused, want %d", what, n, refused)
		}
	}
	f.advance(TickEvery)
	now := f.probes.sequence
	reply("another number", false, probe.Node{From: 2, Asked: probe.TypeNode, Sequence: now + 1})
	reply("another kind", false, probe.Node{From: 2, Asked: 9, Sequence: now})
	reply("another size", false, probe.Node{From: 2, Asked: probe.TypeNode, Sequence: now, Size: 1300})
	reply("what was asked", true, probe.Node{From: 2, Asked: probe.TypeNode, Sequence: now})
	reply("again", false, probe.Node{From: 2, Asked: probe.TypeNode, Sequence: now})
	f.advance(TickEvery)
	now = f.probes.sequence
	f.clock.Add(int64(ReplyWithin))
	reply("at the limit", true, probe.Node{From: 2, Asked: probe.TypeNode, Sequence: now})
	f.tick()
	now = f.probes.sequence
	f.clock.Add(int64(ReplyWithin) + 1)
	reply("past the limit", false, probe.Node{From: 2, Asked: probe.TypeNode, Sequence: now})
	if other := newFixture(t); other.probes.sequence == 0 || other.probes.sequence>>20 == f.probes.sequence>>20 {
		t.Error("two nodes count alike, so an answer to one is one to the other")
	}
}

// TestMaxAsked: so many questions may be answered, the newest of all (I10).
func TestMaxAsked(t *testing.T) {
	var p peer
	for n := range MaxAsked + 1 {
		p.ask(probe.Node{Type: probe.TypeNode, Sequence: uint64(n)}, 0)
	}
	for n := range MaxAsked + 1 {
		if p.answered(probe.Node{Asked: probe.TypeNode, Sequence: uint64(n)}, 0) != (n > 0) {
			t.Errorf("question %d", n)
		}
	}
}
