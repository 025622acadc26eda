package client

import (
	"slices"
	"time"
)

// A way can be dead in one direction alone. Packets that come down count as life, and of a
// server that goes on sending they come for long, while nothing that goes up arrives. What
// shows it is that nobody answers. Single answers get lost, and those of a busy host are
// late, so several are counted in a row, for longer than silence may last: of one slice
// beside another that is answered, it is the agent's side; of all slices of a gateway
// together, the gateway's.

// questions are probes that nobody has answered, in a row.
type questions struct {
	count int
	since time.Duration // of the first
}

func (q *questions) ask(now time.Duration) {
	if q.count == 0 {
		q.since = now
	}
	q.count++
}

// old reports whether the first of them is older than that.
func (q *questions) old(now, than time.Duration) bool { return q.count > 0 && now-q.since > than }

// unheard reports whether they are as many as do not get lost by chance, and old.
func (q *questions) unheard(now, than time.Duration) bool {
	return q.count >= MaxUnanswered && q.old(now, than)
}

// unheard reports whether the slice's agent seems not to hear it.
func (p *pulse) unheard(now time.Duration) bool { return p.open.unheard(now, 2*p.silence()) }

// unheardBy reports whether none of those behind the gateway seems to hear anything. If it
// is this host's own way that is dead no gateway is better: each round of them is slower.
func (c *Client) unheardBy(through []*slice, now time.Duration) bool {
	if c.gateways.count() < 2 || !slices.ContainsFunc(through, (*slice).usable) {
		return false
	}
	slowest := slices.MaxFunc(through, func(x, y *slice) int { return int(x.pulse.silence() - y.pulse.silence()) })
	return c.gateways.open.unheard(now, 2*slowest.pulse.silence()<<c.gateways.slower(c.gateways.unheard))
}

// slower is how often to double what is waited, when so many gateways were left in vain.
func (g *gatewayList) slower(left int) int { return min(left/g.count(), MaxSlower) }
