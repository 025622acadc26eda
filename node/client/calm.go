package client

import "time"

// A client at rest has nothing to do but its probes, and is at rest for most of its life: so
// it looks at all that it has only when something happened, or a second has passed. In
// between a tick looks whether this process stood still, at floods, and at whether a packet
// went or came.

// calm is whether nothing was under way when all was looked at, when that was, and how long
// it may last. The loop's.
type calm struct {
	is            bool
	looked, until time.Duration
}

// undisturbed reports whether nothing can have become due that may not wait for LookEvery.
func (c *Client) undisturbed(now time.Duration) bool {
	if !c.calm.is || now >= c.calm.until {
		return false
	}
	for _, s := range c.slices {
		if max(s.pair.LastSent(), s.pair.LastHeard()) >= int64(c.calm.looked) {
			return false
		}
	}
	return true
}

// noteCalm is called when all was looked at.
func (c *Client) noteCalm(now time.Duration) {
	t := &c.transport
	is := c.session != nil && len(c.slices) > 0 && !c.stranded() && t.stream == nil && len(t.parting) == 0
	until := now + LookEvery
	for _, s := range c.slices {
		is = is && s.atRest(now)
	}
	if is {
		for all, i := c.inOrder(), 0; i < len(all); i++ {
			until = min(until, all[i].pulse.askedAt+c.restless(all[i], all)) // its next question
		}
	}
	c.calm = calm{is, now, until}
}

// atRest reports whether nothing of a slice is under way.
func (s *slice) atRest(now time.Duration) bool {
	p, z := &s.pulse, &s.sizing
	measured := p.sequence >= MeasureProbes || p.meter.Measured()
	return s.proven() && s.older == nil && p.waiting == 0 && p.open.count == 0 && !p.lost() && measured &&
		z.search.Settled() && (z.say == z.heard || z.tries >= SizeTries) && now-time.Duration(s.pair.LastSent()) >= ActiveFor
}
