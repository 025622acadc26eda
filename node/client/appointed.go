package client

import "time"

// Where all nodes were restarted ten thousand clients come back, and each is told when its
// turn is (port.Wait). Until then whoever has nothing to send is quiet: what it would ask its
// agents, who know nothing of its keys any more, takes from the nodes what those need that are
// let in. Whose agents are well, and only the arbiter is busy, hears so before: it asks on for
// AskedFirst.

// appointment is the time between a word to wait and the next attempt. It is never changed.
type appointment struct{ since, until time.Duration }

// waits reports whether the client was told to come again, and has nothing to send until then.
// Nobody has proved that he may say so: it is at most for port.MaxWait, and a packet to send
// ends it.
func (c *Client) waits(now time.Duration) bool {
	a := c.appointed.Load()
	return a != nil && now-a.since >= AskedFirst && now < a.until && c.rested(now)
}
