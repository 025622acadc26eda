package arbiter

import (
	"errors"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/clocks"
)

// ErrClock means that the voters are sure that this node's clock is wrong.
var ErrClock = errors.New("arbiter: this host's clock is wrong")

// shows is a wall clock less this host's boot time, which both go on at the same pace.
func (a *Arbiter) shows(wall time.Time) time.Duration {
	return time.Duration(wall.UnixNano()) - a.config.Now()
}

// clockReadings is what every node's clock shows now: as it said with its load, else as
// it said when this node asked it.
func (a *Arbiter) clockReadings() (all []clocks.Reading) {
	own, voters := a.config.Trust.Key.ID(), a.voters()
	all = append(all, clocks.Reading{Node: own, Voter: voters[own], Shows: a.shows(a.config.Wall())})
	for id, n := range a.nodes {
		if n.clock != 0 && id != own {
			all = append(all, clocks.Reading{Node: id, Voter: voters[id], Shows: n.clock})
		}
	}
	for _, r := range a.config.Clocks() {
		if n := a.nodes[r.Node]; n == nil || n.clock == 0 {
			r.Voter = voters[r.Node]
			all = append(all, r)
		}
	}
	return all
}

// tendClocks tells all nodes whose clock is wrong. When it is this node's own, by the
// word of the voters, the term is over: nobody takes the certificates that it mints.
func (a *Arbiter) tendClocks() {
	v := clocks.Judge(a.clockReadings())
	changed := len(v.Off) != len(a.wrong)
	for id, ahead := range v.Off {
		told, known := a.wrong[id]
		changed = changed || !known || ahead-told > clocks.Limit || told-ahead > clocks.Limit
	}
	if own := a.config.Trust.Key.ID(); v.Sure && v.Off[own] != 0 {
		a.quit = ErrClock
	}
	if changed {
		a.tellClocks(v.Off)
	}
}

func (a *Arbiter) tellClocks(wrong map[identity.NodeID]time.Duration) {
	for id, ahead := range wrong {
		a.book.stale[id] = true
		if _, known := a.wrong[id]; !known {
			a.config.Log.Warn("a node's clock is wrong: set it there", "node", a.nodeName(id), "ahead", ahead)
		}
	}
	for id := range a.wrong {
		a.book.stale[id] = true
		if _, still := wrong[id]; !still {
			a.config.Log.Info("a node's clock agrees with the others again", "node", a.nodeName(id))
		}
	}
	a.wrong = wrong
	a.pushViews()
}
