package demo

import (
	"cmp"
	"maps"
	"slices"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// ledger adds up what each agent carried. A slice that moves starts a new
// epoch and a new count, so counts are kept by epoch and the highest wins.
type ledger struct {
	seen map[sliceKey]carried
}

type sliceKey struct {
	session string
	number  uint8
	epoch   uint32
	agent   string
}

// carried is bytes each way.
type carried struct{ up, down uint64 }

// note takes what `sessions show` says of a session now.
func (l *ledger) note(s control.Session) {
	if l.seen == nil {
		l.seen = make(map[sliceKey]carried)
	}
	for _, sl := range s.Slices {
		key := sliceKey{s.ID, sl.Number, sl.Epoch, sl.Agent}
		was := l.seen[key]
		l.seen[key] = carried{max(was.up, sl.In), max(was.down, sl.Out)}
	}
}

func (l *ledger) byAgent() map[string]carried {
	sums := make(map[string]carried)
	for key, c := range l.seen {
		sum := sums[key.agent]
		sums[key.agent] = carried{sum.up + c.up, sum.down + c.down}
	}
	return sums
}

// sum is what all agents carried.
func (l *ledger) sum() (all carried) {
	for _, c := range l.seen {
		all.up, all.down = all.up+c.up, all.down+c.down
	}
	return all
}

// busiest is the agent that carried most, other than the one spared; "" if
// nobody did.
func (l *ledger) busiest(spared string) string {
	sums := l.byAgent()
	delete(sums, spared)
	agents := slices.Sorted(maps.Keys(sums))
	if len(agents) == 0 {
		return ""
	}
	best := slices.MaxFunc(agents, func(a, b string) int {
		return cmp.Compare(sums[a].up+sums[a].down, sums[b].up+sums[b].down)
	})
	if sums[best] == (carried{}) {
		return ""
	}
	return best
}

// Share is one agent's part of what was carried, each way.
type Share struct {
	Agent string  `json:"agent"`
	Up    float64 `json:"up"`
	Down  float64 `json:"down"`
}

// shares are by name; an agent that never carried is not among them.
func (l *ledger) shares() []Share {
	sums := l.byAgent()
	all := l.sum()
	var list []Share
	for _, agent := range slices.Sorted(maps.Keys(sums)) {
		if c := sums[agent]; c != (carried{}) {
			list = append(list, Share{agent, part(c.up, all.up), part(c.down, all.down)})
		}
	}
	return list
}

func part(some, all uint64) float64 {
	if all == 0 {
		return 0
	}
	return float64(some) / float64(all)
}
