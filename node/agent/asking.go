package agent

import (
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// asking is which of the nodes that this one probes are asked in this tick: all that it
// feeds, for what is on its way to a dead one is lost, and all that stand in for it or
// that it stands in for. The others, egresses and seconds of parts that it has nothing to
// do with, and voters, take turns: there may be dozens, of which every node of a mesh
// would ask every one ten times a second.
func (a *Agent) asking(wanted map[identity.Index]bool) (now []identity.Index) {
	var turns []identity.Index
	room := MaxUnfed - min(len(a.probes.peers), MaxTesters) // those are asked by path tests as well
	handsOn := a.handsOn()
	for index := range wanted {
		switch {
		case a.view.fed[index] > 0 || handsOn[index]:
			now = append(now, index)
		case a.standsIn(index):
			now = append(now, index)
			room--
		default:
			turns = append(turns, index)
		}
	}
	room = max(room, 1)
	ticks := (len(turns) + room - 1) / room
	for _, index := range now {
		a.pace(index, 1)
	}
	for _, index := range turns {
		a.pace(index, ticks)
	}
	if ticks <= 1 {
		return append(now, turns...)
	}
	slices.Sort(turns)
	first := int(a.ticks%uint64(ticks)) * room
	return append(now, turns[first:min(first+room, len(turns))]...)
}

// handsOn are the egresses to which this node hands on what it opens.
func (a *Agent) handsOn() map[identity.Index]bool {
	all := make(map[identity.Index]bool)
	if len(a.slices.byKey) == 0 {
		return all
	}
	for _, w := range a.tables.outlook.onward {
		all[w.to] = true
	}
	return all
}

// standsIn reports whether a node is egress of a part that this one is second of, or the
// other way round.
func (a *Agent) standsIn(index identity.Index) bool {
	own, other := a.config.Key.ID(), a.view.nodes[index].ID
	for _, p := range a.view.parts {
		if p.row.Egress == own && p.row.Second == other || p.row.Egress == other && p.row.Second == own {
			return true
		}
	}
	return false
}

// pace notes how many ticks lie between two questions to a node. One that is asked more
// often from now on has not missed any of those yet.
func (a *Agent) pace(index identity.Index, ticks int) {
	p := a.probes.peers[index]
	if p == nil {
		p = &peer{heardAt: a.config.Now()}
		a.probes.peers[index] = p
	}
	if ticks < p.every && !p.silent {
		p.heardAt = a.config.Now()
	}
	p.every = ticks
}

// patience is how long a node may be unheard before it is silent.
func (p *peer) patience() time.Duration {
	return time.Duration(ProbeMisses*p.every)*TickEvery + TickEvery/2
}
