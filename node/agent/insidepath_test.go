package agent

import (
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// narrow is another node behind a link that carries so many bytes.
type narrow struct {
	*fixture
	far  *linktest.Socket
	from netip.AddrPort // of padded probes
	mtu  int
}

func newNarrow(t *testing.T) *narrow {
	f := newFixture(t).ready()
	f.insideMTU = 1500
	n := &narrow{fixture: f, from: netip.AddrPortFrom(inside(f.index), 7000)}
	whole, err := f.sim.Listen(n.from)
	f.ok(err)
	f.Agent.config.Whole = whole
	n.far, err = f.sim.Listen(netip.AddrPortFrom(inside(2), inPort))
	f.ok(err)
	return n
}

// pass lets time pass while the other node answers what gets there.
func (n *narrow) pass(d time.Duration) {
	n.Helper()
	buffer := make([]byte, link.MaxTrain)
	for ; d > 0; d -= TickEvery {
		n.fixture.pass(TickEvery, 2)
		for {
			train, ok := n.far.TryReceive(buffer)
			if !ok {
				break
			}
			m, ok := probe.ParseNode(buffer[:train.Len], probeKey())
			switch {
			case !ok:
				n.Fatalf("%d bytes are no probe", train.Len)
			case m.Size > 0 && train.Path.Remote != n.from:
				n.Errorf("%d bytes from %v, whose datagrams may be cut", m.Size, train.Path.Remote)
			case m.Type == probe.TypeNode && train.Len+28 <= n.mtu:
				n.do(nodeDatagram{probe.Node{Type: probe.TypeReply, From: 2, Asked: m.Type, Size: m.Size, Sequence: m.Sequence}})
			}
		}
	}
	n.superviseHandOn()
}

// TestNarrowWayToANode: clients are told what passes whole on the way to the
// nodes of this one, not only over its own link; wider or narrower later.
func TestNarrowWayToANode(t *testing.T) {
	n := newNarrow(t)
	n.superviseHandOn()
	if got := int(n.handOnMost.Load()); got != 1460 {
		t.Errorf("before anything is known: %d", got)
	}
	for _, c := range []struct {
		mtu, want int
		within    time.Duration
	}{{1400, 1360, 2 * time.Second}, {1340, 1300, 4 * time.Second}, {1100, pmtu.MinMTU, 4 * time.Second},
		{1500, 1460, pmtu.RaiseSoon + 4*time.Second}} {
		n.mtu = c.mtu
		n.pass(c.within)
		if got := int(n.handOnMost.Load()); got > c.want || got < c.want-pmtu.Grain {
			t.Errorf("links of %d: %d, want %d", c.mtu, got, c.want)
		}
	}
}

// TestWayToAnOlderNode: it answers no padded probe, and counts as before.
func TestWayToAnOlderNode(t *testing.T) {
	n := newNarrow(t)
	n.mtu = 28 + probe.NodeLen
	n.pass(5 * time.Second)
	if got := int(n.handOnMost.Load()); got != 1460 {
		t.Errorf("%d", got)
	}
}

// TestPaddedProbeStandsForAPlainOne: once the size is found a node is asked as often as
// one that is not measured, and each question says what the others do.
func TestPaddedProbeStandsForAPlainOne(t *testing.T) {
	n := newNarrow(t)
	n.mtu = 1500
	n.pass(20 * time.Second)
	n.Agent.ailing = true
	plain, padded := 0, 0
	n.sim.Tap(func(d linktest.Datagram) {
		m, ok := probe.ParseNode(d.Payload, probeKey())
		switch {
		case !ok || m.Type != probe.TypeNode || d.To.Addr() != inside(2):
		case m.Says&probe.SaysAiling == 0:
			t.Errorf("%+v says nothing of the fault", m)
		case m.Size > probe.NodeLen:
			padded++
		default:
			plain++
		}
	})
	n.pass(2 * time.Second)
	if plain+padded != 20 || padded < 2 || padded > 5 {
		t.Errorf("%d plain and %d padded questions in 20 ticks", plain, padded)
	}
}

// TestPaddedProbeOfANode is answered at its size.
func TestPaddedProbeOfANode(t *testing.T) {
	n := newNarrow(t)
	n.do(nodeDatagram{probe.Node{Type: probe.TypeNode, From: 2, Sequence: 5, Size: 1300}})
	buffer := make([]byte, link.MaxTrain)
	train, ok := n.far.TryReceive(buffer)
	m, parsed := probe.ParseNode(buffer[:train.Len], probeKey())
	if !ok || !parsed || m.Size != 1300 || train.Len != 1300 || m.Type != probe.TypeReply || train.Path.Remote != n.from {
		t.Errorf("%+v from %v", m, train.Path.Remote)
	}
}
