package agent

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

func TestMaxSlices(t *testing.T) {
	f := newFixture(t).ready()
	keys := f.offered()
	held := f.customer(keys[0], nil)
	if ack := held.granted(); !ack.Ok {
		t.Fatal(ack.Reason)
	}
	filler := f.slices.byKey[held.sliceKey()]
	for n := uint64(1); len(f.slices.byKey) < MaxSlices; n++ {
		key := sliceKey{epoch: 1}
		binary.BigEndian.PutUint64(key.session[8:], n)
		f.slices.byKey[key] = filler
	}
	if ack := f.customer(keys[1], nil).granted(); ack.Ok || ack.Reason != errFull.Error() {
		t.Errorf("one slice beyond the limit: %+v", ack)
	}
	if ack := held.granted(); !ack.Ok {
		t.Errorf("a slice that is held is refused at the limit: %s", ack.Reason)
	}
}

func TestMaxFromNodes(t *testing.T) {
	f := newFixture(t)
	marker := dataplane.Marker{Type: dataplane.MarkerProbe}
	for range MaxFromNodes + 3 {
		f.ReceiveMarked(nil, link.Path{}, marker, make([]byte, 12))
	}
	f.ReceiveMarked(nil, link.Path{}, dataplane.Marker{Type: dataplane.MarkerHandOn}, make([]byte, 12))
	if r := f.Rejects(); r["node-queue-full"] != 3 || r["marker-unknown"] != 1 || len(f.nodes) != MaxFromNodes {
		t.Errorf("%d queued, rejects %v", len(f.nodes), r)
	}
}

// TestMaxOutside: a flood of Accepts takes no place of what this node needs.
func TestMaxOutside(t *testing.T) {
	f := newFixture(t)
	for range MaxOutside + 3 {
		f.ReceiveMarked(nil, link.Path{}, dataplane.Marker{Type: dataplane.MarkerAccept}, make([]byte, 1230))
	}
	if r := f.Rejects(); r["accept-queue-full"] != 3 || len(f.outside) != MaxOutside || len(f.events) != 0 {
		t.Errorf("%d of strangers and %d of this node's wait, rejects %v", len(f.outside), len(f.events), r)
	}
}

// TestMaxOutbox: an arbiter that does not read loses its stream, and the loop
// does not wait for it.
func TestMaxOutbox(t *testing.T) {
	f := newFixture(t)
	s := f.obey(5)
	for len(s.outbox) < MaxOutbox {
		s.say(&protocol.Node{})
	}
	if f.stream.isClosed() {
		t.Fatal("closed below the limit")
	}
	s.say(&protocol.Node{})
	f.until("the stream is closed", f.stream.isClosed)
}

func TestMaxPartsAndStrangers(t *testing.T) {
	f := newFixture(t).ready()
	for n := range MaxParts + 1 {
		prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 77, byte(n >> 8), byte(n)}), 32)
		f.learnPart(registry.Part{Prefix: prefix, Epoch: 1})
	}
	if len(f.Agent.view.parts) != MaxParts {
		t.Errorf("%d parts", len(f.Agent.view.parts))
	}
	for n := range MaxStrangers + 1 {
		f.do(violation{dataplane.DropPeer.String(), netip.AddrFrom4([4]byte{10, 0, 9, byte(n)}), 1})
	}
	if len(f.strangers) != MaxStrangers {
		t.Errorf("%d strangers", len(f.strangers))
	}
}
