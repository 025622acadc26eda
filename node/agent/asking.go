package agent

import (
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// asking is which of the nodes that this one probes are asked in this tick: all that it
// feeds, for what is on its way to a dead one is lost, and all that it stands in for. The
// others, egresses and seconds of parts that it has nothing to do with, and voters, take
// turns: there may be dozens, of which every node of a mesh would ask every one ten times a
// second. So do those that stand in for it, where they are too many: they ask at each tick
// by themselves, which shows that they live.
func (a *Agent) asking(wanted map[identity.Index]bool) (now []identity.Index) {
	var turns, seconds []identity.Index
	handsOn, behind := a.handsOn(), 0
	for index := range wanted {
		switch {
		case a.view.fed[index] > 0 || handsOn[index]:
			now = append(now, index)
		case a.partner(index, false):
			now = append(now, index)
			behind++
		case a.partner(index, true):
			seconds = append(seconds, index)
		default:
			turns = append(turns, index)
		}
	}
	a.probes.tests = min(len(a.probes.peers), MaxTesters, max(MaxUnfed-1-behind, 1))
	room := MaxUnfed - a.probes.tests - behind
	if len(seconds)+min(len(turns), 1) <= room {
		now = append(now, seconds...)
		room -= len(seconds)
	} else {
		turns = append(turns, seconds...)
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

// partner reports whether this node is egress of a part that another is second of; or else
// the other way round.
func (a *Agent) partner(index identity.Index, egress bool) bool {
	own, other := a.config.Key.ID(), a.view.nodes[index].ID
	if !egress {
		own, other = other, own
	}
	for _, p := range a.view.parts {
		if p.row.Egress == own && p.row.Second == other {
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
	switch stands := ticks > 1 && a.partner(index, true); {
	case !stands:
		p.standsAt = 0
	case p.standsAt == 0:
		p.standsAt = a.config.Now()
	}
}

// patience is how long a node may be unheard before it is silent.
func (p *peer) patience() time.Duration {
	return time.Duration(ProbeMisses*p.every)*TickEvery + TickEvery/2
}

// quiet reports whether a node that stands in for this one asks no more, though it is asked
// too seldom to notice that by its answers in time. When it begins to it may not have heard.
func (p *peer) quiet(now time.Duration) bool {
	return p.standsAt != 0 && now-max(p.heardAt, p.askedAt, p.standsAt+AbsentAfter) > ProbeMisses*TickEvery+TickEvery/2
}
