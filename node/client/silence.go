package client

import (
	"net/netip"
	"time"
)

// A gateway that is silent is left, and the connection to the arbiter through it with it. But
// it may as well be the agents that are silent, by whichever gateway: where an egress is cut off
// that was the gateway too, the last slice is its own, and what is granted in the others' place
// comes by a connection through another. So a gateway by which nobody was heard since the client
// moved to it is only blamed.

// heardMeanwhile reports whether the arbiter was heard after the slices fell silent: then its
// connection goes where theirs do not. So it is where all nodes were restarted: agents know
// nothing of the old keys, and who was let in again would give that up for them.
func (c *Client) heardMeanwhile() bool {
	since := c.silentSince()
	return since != 0 && c.wordAt > since+WordAfter
}

// silentSince is from when on nobody was heard through a gateway; 0: somebody is. A slice that
// was silent for long when others were still heard says nothing of that.
func (c *Client) silentSince() (since time.Duration) {
	var through []*slice
	var heard time.Duration
	for _, s := range c.slices {
		if s.held() && !s.direct.inUse() {
			through, heard = append(through, s), max(heard, s.pulse.heardAt)
		}
	}
	for _, s := range through {
		if mute := s.pulse.mute; mute > heard && (since == 0 || mute < since) {
			since = mute
		}
	}
	return since
}

// led reports whether any slice was heard by the gateway in use since the client moved to it.
func (c *Client) led() bool {
	for _, s := range c.slices {
		if s.held() && !s.direct.inUse() && !s.pulse.trial {
			return true
		}
	}
	return false
}

// leaveBlamed gives up the connection to the arbiter through the gateway that is blamed, now
// that another leads on, if no word came by it meanwhile. Until then its own silence ends it.
func (c *Client) leaveBlamed() {
	blamed := c.gateways.blamed
	c.gateways.blamed = netip.AddrPort{}
	if c.control == nil || c.control.gateway != blamed || blamed == c.gateways.at(c.gateways.current) {
		return
	}
	if c.wordAt <= c.gateways.blamedAt {
		c.hurry(elsewhere)
	}
}
