package agent

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// gateways is a view in which these are not drained; all others are.
func (f *fixture) gateways(open ...identity.Index) *protocol.Node {
	v := f.view(3)
	v.Changes, v.Slices = true, f.slices.held()
	for i := range v.Nodes {
		v.Nodes[i].Is, v.Nodes[i].Drained = registry.RoleGateway, !slices.Contains(open, v.Nodes[i].Index)
	}
	return &protocol.Node{View: v}
}

// warned is which gateways the client was told of that are to stop, until now.
func (c *customer) warned() (all []netip.AddrPort) {
	c.Helper()
	buffer := make([]byte, 2048)
	for {
		t, ok := c.socket.TryReceive(buffer)
		if !ok {
			return all
		}
		body, _, _, err := c.pair.In.Open(buffer[:t.Len])
		c.ok(err)
		if at, is := probe.ParseLeaving(body); is {
			all = append(all, at...)
		}
	}
}

// TestParkedClientIsToldOfItsGateway: that it is to stop, at once and again when it asks;
// nothing of others, and nothing who is not parked.
func TestParkedClientIsToldOfItsGateway(t *testing.T) {
	f := newFixture(t)
	f.serves(true)
	c := f.customer(f.offered()[0], nil).up()
	path, _ := f.slices.byKey[c.sliceKey()].pair.Path()
	by := netip.AddrPortFrom(path.Remote.Addr(), 6484) // as if a gateway stood there
	at := func(m *protocol.Node) *protocol.Node {
		m.View.Nodes[1].Outer = by
		return m
	}
	f.hear(at(f.gateways(1, 2, 3)))
	c.asksParked(9)
	f.hear(at(f.gateways(1, 2)))
	if f.advance(time.Second); len(c.warned()) != 0 {
		t.Error("told of a gateway that is another's")
	}
	f.hear(at(f.gateways(1, 3)))
	var told []netip.AddrPort
	f.until("it is told at once", func() bool { told = append(told, c.warned()...); return len(told) > 0 })
	if told[0] != by {
		t.Errorf("told of %v, not of %v", told, by)
	}
	f.hear(at(f.gateways()))
	c.asksParked(9)
	if f.advance(time.Second); len(c.warned()) != 0 {
		t.Error("told of one that is to stop, and of no other there is")
	}
	down := at(f.gateways(3))
	down.View.Nodes[2].Up = false
	f.hear(down)
	c.asksParked(9)
	if f.advance(time.Second); len(c.warned()) != 0 {
		t.Error("told to leave for one that is down")
	}
	f.hear(at(f.gateways(1, 3)))
	f.until("it is told when there is one", func() bool { return len(c.warned()) == 1 })
	c.asksParked(9)
	f.until("it is told again when it asks", func() bool { return len(c.warned()) == 1 })
	f.hear(at(f.gateways(1, 2, 3)))
	c.asksParked(9)
	if f.advance(time.Second); len(c.warned()) != 0 {
		t.Error("told of one that is not to stop any more")
	}
	c.ping()
	f.hear(at(f.gateways(1)))
	if f.advance(time.Second); len(c.warned()) != 0 {
		t.Error("told though its arbiter tells it")
	}
}
