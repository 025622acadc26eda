package agent

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// TestPaddedProbe: it comes back at its own size, says what the inside network
// takes, and its word on sizes counts from then on.
func TestPaddedProbe(t *testing.T) {
	f := newFixture(t).ready()
	f.insideMTU = 1500
	f.superviseHandOn()
	c := f.customer(f.offered()[0], nil).up()
	pair := f.slices.byKey[c.sliceKey()].pair
	for _, size := range []int{probe.LenPadded, 1438, probe.MaxPadded} {
		asked := probe.Padded{Size: size, Token: uint32(size), MTU: 1438, Limit: 1400}
		c.ok(c.pair.SendPadded(asked.Marshal(probe.KindPadded)))
		datagram := c.receive()
		length := len(datagram)
		body, _, _, err := c.pair.In.Open(datagram)
		c.ok(err)
		want := probe.Padded{Size: size, Token: uint32(size), MTU: 1460}
		if got, ok := probe.ParsePadded(body, probe.KindPaddedReply); !ok || got != want || length != esp.SealedLen(size) {
			t.Errorf("%d bytes answered by %+v, %v", size, got, ok)
		}
		if mtu, limit := pair.Sizes(); mtu != 1438 || limit != 1400 {
			t.Errorf("sizes %d, %d", mtu, limit)
		}
	}
	c.ok(c.pair.SendPadded(probe.Padded{Size: 100}.Marshal(probe.KindPaddedReply))) // not a question
	c.ping()                                                                        // and this is the next answer
}

// TestSmallInsideNetwork: below 1280 bytes a hand-on goes in fragments; who is
// alone hands nothing on.
func TestSmallInsideNetwork(t *testing.T) {
	f := newFixture(t).ready()
	for _, c := range []struct{ mtu, nodes, want int }{{1300, 3, pmtu.MinMTU}, {9000, 3, 8960}, {1500, 1, 0}, {0, 3, 0}} {
		f.insideMTU = c.mtu
		f.learn(f.view(c.nodes))
		f.superviseHandOn()
		if got := int(f.handOnMost.Load()); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}

// sizesOf is what a slice's pair in use has.
func (c *customer) sizesOf() [2]int {
	mtu, limit := c.slices.byKey[c.sliceKey()].pair.Sizes()
	return [2]int{mtu, limit}
}

// TestSizesOutliveARekey: the path is the same with other keys.
func TestSizesOutliveARekey(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	c.ok(c.pair.SendPadded(probe.Padded{Size: 100, MTU: 1300, Limit: 1290}.Marshal(probe.KindPadded)))
	c.control()
	f.Agent.rekeyAfter = 0
	f.advance(2 * TickEvery)
	next := c.answer()
	s := f.slices.byKey[c.sliceKey()]
	f.until("the agent has the new keys", func() bool { return s.next != nil })
	if mtu, limit := s.next.Sizes(); mtu != 1300 || limit != 1290 || c.sizesOf() != [2]int{1300, 1290} {
		t.Errorf("%d, %d under the new keys %x", mtu, limit, next.SPIIn)
	}
	var fresh dataplane.Pair
	if mtu, _ := fresh.Sizes(); mtu == 1300 {
		t.Error("the default is no other size, so nothing was shown")
	}
}
