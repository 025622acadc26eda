package client

import (
	"slices"
	"time"
)

// A client at rest has nothing to do but its probes, and is at rest for most of its life: so
// it looks at all that it has only when something happened, or a second has passed; where none
// of its agents answers, a quarter of one: of a mesh that begins anew all clients wait. In
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
	t, all := &c.transport, c.inOrder()
	c.calm = calm{looked: now}
	if c.session == nil || len(all) == 0 || c.stranded() || t.stream != nil || len(t.parting) > 0 {
		return
	}
	moving := func(s *slice) bool { return !s.atRest(now) || c.unmeasured(s) }
	heard := func(s *slice) bool { return !s.isMute(now) }
	switch {
	case !slices.ContainsFunc(all, moving):
		c.calm.is, c.calm.until = true, now+LookEvery
		for _, s := range all {
			c.calm.until = min(c.calm.until, s.pulse.askedAt+c.restless(s, all)) // its next question
		}
	case !slices.ContainsFunc(all, heard):
		c.calm.is, c.calm.until = true, now+LookEvery
		if c.parking.moves > now {
			c.calm.until = min(c.calm.until, c.parking.moves)
		}
	}
}

// atRest reports whether nothing of a slice is under way.
func (s *slice) atRest(now time.Duration) bool {
	p, z := &s.pulse, &s.sizing
	return s.proven() && s.older == nil && p.waiting == 0 && p.open.count == 0 && !p.lost() &&
		(z.rests || z.search.Settled() && (z.say == z.heard || z.tries >= SizeTries)) && now-time.Duration(s.pair.LastSent()) >= ActiveFor
}

// isMute reports whether its agent has long not answered, and nothing is to be sent: then all
// that is done is to ask on, each ProbeMute.
func (s *slice) isMute(now time.Duration) bool {
	return s.confirmed && s.older == nil && s.retireAt == 0 && s.pulse.mute != 0 && now-s.pulse.mute >= MuteAfter &&
		now-time.Duration(s.pair.LastSent()) >= ActiveFor
}
