package client

import (
	"net/netip"
	"slices"
	"time"
)

// A way that stands still for a moment and goes on is not silent: what was sent
// to it waits and is answered late, and each late answer makes the next silence
// seem shorter (probe.RTT). So moments are counted, whatever answers took
// lately. Who had MaxStops of them in StopsOver is left, and not taken again for
// StopHold: a gateway, an agent's direct way, or an agent.

// stops remembers when somebody stood still.
type stops struct {
	at [MaxStops]time.Duration // the last ones, the oldest first; 0: none
}

// note counts one, and reports whether they are too many.
func (s *stops) note(now time.Duration) bool {
	copy(s.at[:], s.at[1:])
	s.at[MaxStops-1] = now
	return s.often(now)
}

// often reports whether the last MaxStops were within StopsOver, and the newest
// no longer ago than StopHold.
func (s *stops) often(now time.Duration) bool {
	oldest, newest := s.at[0], s.at[MaxStops-1]
	return oldest != 0 && newest-oldest <= StopsOver && now-newest < StopHold
}

// stands reports whether the slice has said nothing for longer than StopLimit
// beyond the time that an answer takes at best. Before the first answer along
// its way that time is not known, and where nothing is sent none of it is lost.
func (p *pulse) stands(now time.Duration) bool {
	return !p.calm && p.waiting != 0 && p.nearest != 0 && now-p.waiting > StopLimit+p.nearest
}

// fresh reports whether the slice was heard a moment ago: whoever is silent
// beside it stands still alone.
func (p *pulse) fresh(now time.Duration) bool {
	return p.heardAt != 0 && now-p.heardAt <= StopLimit/2+p.nearest
}

// superviseStops finds whose fault it is that slices stand still: each has its
// stop counted once, against its agent while a sibling through the gateway is
// heard, and against the gateway when all stand still.
func (c *Client) superviseStops(judged []*slice, now time.Duration) {
	if c.stranded() {
		return
	}
	through := throughGateway(judged)
	var standing []*slice
	var witness *slice
	for _, s := range judged {
		p := &s.pulse
		if !p.stands(now) {
			p.counted = false
			if !s.direct.inUse() && p.fresh(now) {
				witness = s
			}
			continue
		}
		switch {
		case p.counted:
		case s.direct.inUse():
			c.stoodDirect(s, now)
		default:
			standing = append(standing, s)
		}
	}
	all := !slices.ContainsFunc(through, func(s *slice) bool { return !s.pulse.stands(now) })
	switch {
	case len(standing) == 0:
	case witness != nil:
		c.stoodAgents(standing, witness, now)
	case all:
		c.stoodGateway(standing, now)
	}
}

// stoodDirect counts a stop of an agent's own way.
func (c *Client) stoodDirect(s *slice, now time.Duration) {
	s.pulse.counted = true
	if s.direct.stops.note(now) {
		c.config.Log.Warn("the direct way stands still again and again", "slice", s.key.number, "to", s.direct.way)
		c.dropDirect(s, now)
		s.direct.wait = StopHold
	}
}

// stoodAgents counts a stop of agents. The last slice that is usable is kept: one that
// stands still now and then is better than none.
func (c *Client) stoodAgents(standing []*slice, witness *slice, now time.Duration) {
	for _, s := range standing {
		s.pulse.counted = true
		if s.pulse.stops.note(now) && c.usableBeside(s) {
			c.condemn([]*slice{s}, witness, "stands still again and again")
		}
	}
}

// usableBeside reports whether another slice could carry all.
func (c *Client) usableBeside(s *slice) bool {
	for _, other := range c.slices {
		if other != s && other.usable() {
			return true
		}
	}
	return false
}

func (c *Client) stoodGateway(standing []*slice, now time.Duration) {
	for _, s := range standing {
		s.pulse.counted = true
	}
	gateway := c.gateways.at(c.gateways.current)
	if c.gateways.stopped(gateway, now) && c.gateways.count() > 1 {
		c.leaveGateway(now, "gateway stands still again and again")
	}
}

// stopped counts a stop of a gateway, and reports whether they are too many.
func (g *gatewayList) stopped(gateway netip.AddrPort, now time.Duration) bool {
	if g.stops == nil {
		g.stops = make(map[netip.AddrPort]*stops)
	}
	for known, s := range g.stops {
		if now-s.at[MaxStops-1] > StopHold {
			delete(g.stops, known) // so there are never more than are known
		}
	}
	if g.stops[gateway] == nil {
		g.stops[gateway] = &stops{}
	}
	return g.stops[gateway].note(now)
}

// shunned reports whether a gateway stood still too often lately.
func (g *gatewayList) shunned(gateway netip.AddrPort, now time.Duration) bool {
	s := g.stops[gateway]
	return s != nil && s.often(now)
}
