package client

import (
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// Where the mesh wants it, a slice goes straight to its agent's own outer
// address: that node acts as the slice's gateway. Whether the way is open, only
// an answer along it tells. Until then, and when the direct way falls silent,
// the slice goes through the gateway that all have in common.

// direct is a slice's way past the common gateway.
type direct struct {
	ways    []netip.AddrPort // the agent's own outer addresses; none: the mesh wants a gateway
	way     netip.AddrPort   // in use; zero: through the common gateway
	asked   netip.AddrPort   // zero: not asked since the slice took its present way
	askedAt time.Duration
	wait    time.Duration // doubles with each question without an answer
	tookAt  time.Duration
	stops   stops // of the direct way
}

// inUse reports whether the slice goes past the common gateway.
func (d *direct) inUse() bool { return d.way.IsValid() }

// next is the address to be asked now: those of the two families take turns.
func (d *direct) next() netip.AddrPort {
	return d.ways[(slices.Index(d.ways, d.asked)+1)%len(d.ways)]
}

// superviseDirect asks for the direct way of slices that are without, and takes
// it when the agent has answered along it.
func (c *Client) superviseDirect(now time.Duration) {
	if c.transport.stream != nil {
		return // UDP is silent
	}
	for _, s := range c.slices {
		d := &s.direct
		switch {
		case !s.usable() || len(d.ways) == 0 || d.inUse():
		case d.asked.IsValid() && time.Duration(s.pair.Tried(d.asked)) >= d.askedAt:
			c.takeDirect(s, now)
		case now-d.askedAt >= d.wait:
			d.asked, d.askedAt = d.next(), now
			d.wait = min(max(2*d.wait, AskDirectMin), AskDirectMax)
			_ = s.pair.Try(link.Path{Remote: d.asked}, int64(now)) // asked again later
		}
	}
}

// takeDirect sends a slice past the common gateway from now on.
func (c *Client) takeDirect(s *slice, now time.Duration) {
	d := &s.direct
	d.way, d.tookAt = d.asked, now
	c.config.Log.Info("slice goes directly", "slice", s.key.number, "agent", s.grant.Agent.Short(), "to", d.way)
	c.reroute(s, now)
}

// leaveDirect takes slices whose direct way is silent back to the common
// gateway. Nobody is condemned: whether it is the way or the agent that died
// shows there.
func (c *Client) leaveDirect(judged []*slice, now time.Duration) {
	for _, s := range judged {
		d := &s.direct
		if !d.inUse() || !s.pulse.silent(now) && !s.pulse.unheard(now) {
			continue
		}
		c.config.Log.Warn("the direct way is silent", "slice", s.key.number, "agent", s.grant.Agent.Short(), "to", d.way)
		c.dropDirect(s, now)
	}
}

// dropDirect takes one slice back to the common gateway, and asks for the direct
// way again later.
func (c *Client) dropDirect(s *slice, now time.Duration) {
	d := &s.direct
	if now-d.tookAt > UDPLasting {
		d.wait = 0
	}
	d.wait = min(max(2*d.wait, AskDirectMin), AskDirectMax)
	d.way, d.asked, d.askedAt = netip.AddrPort{}, netip.AddrPort{}, now
	c.reroute(s, now)
}

// forgetDirect lets every slice go the common way with the next move: the
// network is another one, or UDP is silent on it.
func (c *Client) forgetDirect() {
	for _, s := range c.slices {
		s.direct = direct{ways: s.direct.ways}
	}
}

// wayOf is where a slice's packets go.
func (c *Client) wayOf(s *slice) netip.AddrPort {
	if s.direct.inUse() {
		return s.direct.way
	}
	return c.gateways.at(c.gateways.current)
}

// throughGateway are the slices that go through the common gateway.
func throughGateway(judged []*slice) []*slice {
	return slices.DeleteFunc(slices.Clone(judged), func(s *slice) bool { return s.direct.inUse() })
}

// secondWitness is a living slice, itself direct, that has lately had an answer
// through the common gateway, where all who go by it are silent: then it is
// their agents. While one of them is in doubt, the direct ones ask.
func (c *Client) secondWitness(judged []*slice, now time.Duration) (witness *slice) {
	doubt := slices.ContainsFunc(judged, func(s *slice) bool {
		return !s.direct.inUse() && !s.condemned && s.pulse.doubtful(now)
	})
	if !doubt {
		return nil
	}
	gateway := c.gateways.at(c.gateways.current)
	ask := now-c.gateways.askedAt >= ProbeActive
	for _, s := range judged {
		if !s.direct.inUse() || !s.pulse.witness(now) {
			continue
		}
		if ask {
			c.gateways.askedAt = now
			_ = s.pair.Try(link.Path{Remote: gateway}, int64(now)) // asked again
		}
		if at := time.Duration(s.pair.Tried(gateway)); at != 0 && now-at <= s.pulse.rtt.Silence()/2 {
			witness = s
		}
	}
	return witness
}
