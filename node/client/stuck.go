package client

import (
	"time"

	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// Who has packets to send and nobody that carries them comes before those that only tell an
// arbiter that they are there, as thousands do when one dies: it takes no appointment and
// queues, once until it is welcomed again (backoff.press). Each source has its turn there
// (node/slots), so whoever claims it without need makes nobody wait but himself.

// unsent is what the packet engine found no slice for. The loop's.
type unsent struct {
	looks bool          // nobody carried anything when it was looked at last
	count uint64        // then
	at    time.Duration // when it was last more; 0: never
}

// superviseStuck notes whether packets wait for a slice, and has the dialer hurry when they
// begin to.
func (c *Client) superviseStuck(now time.Duration) {
	carried := c.carried(now)
	c.noteUnsent(carried, now)
	stuck := c.session != nil && !carried && c.sends(now)
	if was := c.stuck.Swap(stuck); was || !stuck || c.control != nil {
		return
	}
	select {
	case c.redial <- again:
	default: // the dialer looks anyway
	}
}

// carried reports whether any slice is in use that answers, as far as is known.
func (c *Client) carried(now time.Duration) bool {
	for _, s := range c.slices {
		if s.usable() && (s.pulse.mute == 0 || now-s.pulse.mute < MuteAfter) {
			return true
		}
	}
	return false
}

// noteUnsent looks whether there was more that found no slice since nobody carries anything.
func (c *Client) noteUnsent(carried bool, now time.Duration) {
	u := &c.unsent
	if carried {
		u.looks = false
		return
	}
	n := c.config.Engine.Stats().Dropped[dataplane.DropNoSlice]
	if u.looks && n > u.count {
		u.at = now
	}
	u.looks, u.count = true, n
}
