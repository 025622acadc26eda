package client

import (
	"context"
	"net"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/node/host"
)

// Network is what the client watches of the host's network around it.
type Network interface {
	// Watch calls changed after a change, until ctx ends.
	Watch(ctx context.Context, changed func()) error
	// WatchGeneration calls heard when this machine was cloned or restored, until ctx
	// ends.
	WatchGeneration(ctx context.Context, heard func()) error
	// ExitTo is how the client's own packets to an address leave.
	ExitTo(netip.Addr) host.Exit
}

// watchNetwork tells the loop of changes; without a watch, silence shows them.
func (c *Client) watchNetwork(ctx context.Context) {
	if c.config.Network == nil {
		return
	}
	if err := c.config.Network.Watch(ctx, func() { c.must(ctx, networkChanged{}) }); err != nil {
		c.config.Log.Warn("changes of the network are noticed by silence only", "error", err)
	}
}

type networkChanged struct{}

// apply goes on by the new way at once: one packet on every SA tells all
// agents, and a connection that stood on an address that is gone is opened anew.
func (networkChanged) apply(c *Client) {
	if c.session == nil {
		return
	}
	present := c.gateways.at(c.gateways.current)
	gateway, exit := c.wayOut(present)
	if gateway == present && exit == c.exit {
		return
	}
	c.gateways.use(gateway)
	c.exit = exit
	if !exit.Leads() {
		c.config.Log.Warn("no route to the gateway", "gateway", gateway)
		return
	}
	c.config.Log.Info("network changed", "gateway", gateway, "source", exit.Source)
	now := c.config.Now()
	c.leaveStream(now)
	c.forgetDirect()
	c.doubtPath()
	c.moveTo(gateway, now)
	switch {
	case c.control == nil:
		c.abandonDial()
		c.hurry(moved)
	case !c.stands(c.control):
		c.hurry(moved)
	}
}

// wayOut is the gateway in use and how it is reached; on a network that has only
// the other family, one of that.
func (c *Client) wayOut(gateway netip.AddrPort) (netip.AddrPort, host.Exit) {
	var exits []host.Exit
	ways := c.gateways.ways(gateway)
	for i, way := range ways {
		exits = append(exits, c.config.Network.ExitTo(way.Addr()))
		if exits[i].Leads() {
			return way, exits[i]
		}
	}
	return gateway, exits[0]
}

// superviseNetwork waits for a way; whoever watches may have missed it.
func (c *Client) superviseNetwork() {
	if c.stranded() {
		networkChanged{}.apply(c)
	}
}

// notice looks up how the gateway in use is reached now.
func (c *Client) notice() {
	if c.config.Network != nil {
		c.exit = c.config.Network.ExitTo(c.gateways.at(c.gateways.current).Addr())
	}
}

// stranded reports whether no packet can leave for the gateway in use: then
// silence says nothing about it.
func (c *Client) stranded() bool { return c.config.Network != nil && !c.exit.Leads() }

// abandonDial ends an attempt that began on the old network.
func (c *Client) abandonDial() {
	if a := c.dialing.Load(); a != nil {
		a.cancel()
	}
}

// abandonThrough ends an attempt through a gateway that is left.
func (c *Client) abandonThrough(gateway netip.AddrPort) {
	if a := c.dialing.Load(); a != nil && a.gateway == gateway {
		a.cancel()
	}
}

// stands reports whether a connection's own address is still the one to use.
func (c *Client) stands(s *controlState) bool {
	local, ok := s.raw.LocalAddr().(*net.TCPAddr)
	return !ok || local.AddrPort().Addr().Unmap() == c.config.Network.ExitTo(s.gateway.Addr()).Source
}
