package client

import (
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// pulse is what the client knows of one slice's life (design 8): any
// authenticated packet is life; silence counts only from a probe on.
type pulse struct {
	rtt      probe.RTT
	sequence uint32
	askedAt  time.Duration // last probe
	waiting  time.Duration // first probe since the last sign of life; 0: none out
	verdict  probe.Verdict // the agent's word on its plaintext path
	load     probe.Load    // the agent's word on its load
}

func (p *pulse) restart(now time.Duration) { p.waiting, p.askedAt = 0, now }

func (p *pulse) answered(r probe.Reply, now time.Duration) {
	p.rtt.Observe(now - r.Sent)
	p.verdict, p.load = r.Verdict, r.Load
}

// heard notes the newest sign of life.
func (p *pulse) heard(at time.Duration) {
	if p.waiting != 0 && at >= p.waiting {
		p.waiting = 0
	}
}

// silent reports whether the slice said nothing for longer than it may.
func (p *pulse) silent(now time.Duration) bool {
	return p.waiting != 0 && now-p.waiting > p.rtt.Silence()
}

// due reports whether it is time to probe: often while the slice carries or
// awaits traffic, rarely otherwise.
func (p *pulse) due(now, lastSent time.Duration) bool {
	every := ProbeIdle
	if p.waiting != 0 || now-lastSent < ActiveFor {
		every = ProbeActive
	}
	return now-p.askedAt >= every
}

// ask sends one probe on a slice's SA.
func (c *Client) ask(s *slice, now time.Duration) {
	p := &s.pulse
	p.sequence++
	p.askedAt = now
	if p.waiting == 0 {
		p.waiting = now
	}
	_ = s.pair.SendControl(probe.Ask(p.sequence, now)) // silence is judged, not errors
}

// superviseLiveness probes what is due and judges who is silent: a slice that
// is silent while a sibling through the same gateway is heard is condemned;
// when all are silent the gateway is left and nobody is condemned.
func (c *Client) superviseLiveness(now time.Duration) {
	var silent, heard []*slice
	for _, s := range c.slices {
		if !s.confirmed || s.retireAt != 0 {
			continue
		}
		for _, p := range s.pairs() {
			s.pulse.heard(time.Duration(p.LastHeard()))
		}
		switch {
		case s.pulse.silent(now):
			silent = append(silent, s)
		default:
			heard = append(heard, s)
			c.reprieve(s)
		}
		if s.pulse.due(now, c.lastSent(s)) {
			c.ask(s, now)
		}
	}
	switch {
	case len(silent) == 0:
	case len(heard) > 0:
		c.condemn(silent, heard[0])
	default:
		c.leaveGateway(now)
	}
}

// lastSent is when the slice last carried anything; all slices of a busy
// session are kept warm, so that any of them can take over.
func (c *Client) lastSent(s *slice) time.Duration {
	last := s.pair.LastSent()
	for _, sibling := range c.slices {
		last = max(last, sibling.pair.LastSent())
	}
	return time.Duration(last)
}

// condemn stops using silent slices at once, and says so to the arbiter and,
// over a living slice, to the egress.
func (c *Client) condemn(silent []*slice, living *slice) {
	for _, s := range silent {
		if s.condemned {
			continue
		}
		s.condemned = true
		c.dirty = true
		c.config.Log.Warn("slice is silent", "slice", s.key.number, "agent", s.grant.Agent.Short())
		ref := s.key.ref()
		ref.Reason = "silent"
		c.say(&protocol.Client{Silent: &ref})
		verdict := append([]byte{probe.KindVerdict}, probe.VerdictBody(s.key.number, s.key.epoch)...)
		_ = living.pair.SendControl(verdict) // the egress has probes of its own
	}
}

// reprieve takes a slice back that is heard again before it was replaced.
func (c *Client) reprieve(s *slice) {
	if s.condemned && s.pulse.waiting == 0 {
		s.condemned = false
		c.dirty = true
	}
}

// leaveGateway moves every slice to the next gateway and sends one packet on
// every SA at once, so that all agents learn the new way back.
func (c *Client) leaveGateway(now time.Duration) {
	old := c.gateways.at(c.gateways.current)
	c.gateways.current++
	next := c.gateways.at(c.gateways.current)
	c.config.Log.Warn("gateway is silent", "gateway", old, "next", next)
	c.moveTo(next, now)
	if c.control != nil && c.control.gateway == old {
		c.hurry(true)
	}
}

// adoptGateways takes a pushed list. If the gateway in use is not in it, it is
// about to stop: every slice moves on while it still forwards, and the control
// connection stays until it ends.
func (c *Client) adoptGateways(all []netip.AddrPort, now time.Duration) {
	old := c.gateways.at(c.gateways.current)
	c.gateways.replace(all)
	if next := c.gateways.at(c.gateways.current); next != old {
		c.config.Log.Info("gateway changed", "gateway", old, "next", next)
		c.moveTo(next, now)
	}
}

// moveTo sends everything through one gateway from now on.
func (c *Client) moveTo(next netip.AddrPort, now time.Duration) {
	for _, s := range c.slices {
		for _, p := range s.pairs() {
			p.SetPath(link.Path{Remote: next})
		}
		s.pulse.restart(now)
		if s.confirmed {
			c.ask(s, now)
		}
	}
}
