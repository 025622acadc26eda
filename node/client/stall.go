package client

import (
	"time"

	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/said"
)

// superviseEngine lets a packet engine go on that stopped because this process
// stood still: a laptop asleep, a paused VM (design 9). After a short stop the
// slices go on, judged anew, for answers were lost meanwhile. After a long one
// the client starts as after a restart: without keys, by resumption.
func (c *Client) superviseEngine(now time.Duration) {
	stood := c.config.Engine.Tick()
	if stood == 0 {
		return
	}
	c.calm.is = false
	if unsaid, ok := c.stalls.Say(now, SaidFree, SaidRate); ok {
		c.config.Log.Warn("this process stood still", append([]any{"for", stood.Round(time.Millisecond)}, said.Left(unsaid)...)...)
	}
	if stood > RestartAfter {
		c.restart(now)
	}
	c.gateways.open = questions{}
	for _, s := range c.slices {
		s.pulse.restart(now)
	}
	c.superviseKeys(now)
	c.publishIfDirty()
	c.config.Engine.Resume()
}

// restart gives every slice up and asks for the session anew. Headless time
// counts from here: asleep we could not hear, and now we seal nothing. But it
// does so once only until an arbiter is heard.
func (c *Client) restart(now time.Duration) {
	if c.sends(now) {
		c.unsent.at = now // what comes next finds no slice
	}
	for _, s := range c.slices {
		c.forget(s)
	}
	if c.session == nil {
		return
	}
	if !c.stood {
		c.stood, c.wordAt = true, now
	}
	c.outdated = c.control == nil
	c.superviseStuck(now)
	c.hurry(again)
}

// superviseKeys ends slices whose keys nobody renewed in time; the agent
// offers that long before. A rekey under way is no younger than its slice's
// last one, so the keys in use are the first to end. A client without a slice left
// has nobody who could speak for one: it asks for its session anew.
func (c *Client) superviseKeys(now time.Duration) {
	had := len(c.slices)
	for _, s := range c.inOrder() {
		if !s.pair.Over(int64(now)) {
			continue
		}
		c.config.Log.Warn("the keys of a slice were not renewed", "slice", s.key.number, "agent", s.grant.Agent.Short())
		ref := s.key.ref()
		ref.Reason = "keys too old"
		c.say(&protocol.Client{Silent: &ref})
		c.forget(s)
	}
	if had > 0 && len(c.slices) == 0 {
		c.restart(now)
	}
}
