package agent

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
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
	f := newFixture(t).ready()
	marker := dataplane.Marker{Type: dataplane.MarkerProbe}
	question := probe.Node{Type: probe.TypeNode, From: 2}.Marshal(probeKey())
	for range MaxFromNodes + 3 {
		f.ReceiveMarked(nil, link.Path{}, marker, question)
	}
	f.ReceiveMarked(nil, link.Path{}, dataplane.Marker{Type: dataplane.MarkerHandOn}, make([]byte, 12))
	if r := f.Rejects(); r["node-queue-full"] != 3 || r["marker-unknown"] != 1 || len(f.nodes) != MaxFromNodes {
		t.Errorf("%d queued, rejects %v", len(f.nodes), r)
	}
}

// TestStrangersInside: what strangers send in a node's name to a port of the inside
// network that they reach takes no place of what nodes say, before a view is known
// and after, and a flood of Accepts outside none of a node's.
func TestStrangersInside(t *testing.T) {
	f := newFixture(t)
	forged := func() {
		for _, kind := range []dataplane.MarkerType{dataplane.MarkerProbe, dataplane.MarkerProbeReply, dataplane.MarkerPathTest} {
			f.ReceiveMarked(f.Agent.config.Inside, link.Path{}, dataplane.Marker{Type: kind}, probe.Node{Type: probe.TypeNode, From: 2}.Marshal(nil))
		}
		f.ReceiveMarked(f.Agent.config.Inside, link.Path{}, dataplane.Marker{Type: dataplane.MarkerVerdict}, probe.SliceVerdict{}.Marshal(nil))
	}
	forged()
	f.ready()
	forged()
	if r := f.Rejects(); r["probe-refused"] != 6 || r["verdict-refused"] != 2 || len(f.nodes) != 0 {
		t.Errorf("%d wait, rejects %v", len(f.nodes), r)
	}
	accept := make([]byte, 1230)
	for range MaxOutside {
		f.ReceiveMarked(f.Agent.config.Outer, link.Path{}, dataplane.Marker{Type: dataplane.MarkerAccept}, accept)
	}
	f.ReceiveMarked(f.Agent.config.Inside, link.Path{}, dataplane.Marker{Type: dataplane.MarkerAccept}, accept)
	if len(f.outside) != MaxOutside || len(f.handshakes) != 1 {
		t.Errorf("%d Accepts from outside wait, and %d from inside", len(f.outside), len(f.handshakes))
	}
}

// TestMaxHandshakes (I10).
func TestMaxHandshakes(t *testing.T) {
	f := newFixture(t)
	for range MaxHandshakes + 2 {
		f.ReceiveMarked(f.Agent.config.Inside, link.Path{}, dataplane.Marker{Type: dataplane.MarkerConfirm}, make([]byte, 12))
	}
	if r := f.Rejects(); r["handshake-queue-full"] != 2 || len(f.handshakes) != MaxHandshakes {
		t.Errorf("%d wait, rejects %v", len(f.handshakes), r)
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
	for s.Waiting() < MaxOutbox {
		s.Say(&protocol.Node{})
	}
	if f.line.isClosed() {
		t.Fatal("closed below the limit")
	}
	s.Say(&protocol.Node{})
	f.until("the stream is closed", f.line.isClosed)
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
