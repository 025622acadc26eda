package check

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Holding is one epoch of a slice for which an agent has living keys.
type Holding struct {
	Session registry.SessionID
	Number  uint8
	Epoch   uint32
	Fence   protocol.Fence // of the arbiter that granted it
	Leases  []netip.Addr
	Ends    bool // it was revoked, and opens for a while
}

func (h Holding) slot() slot { return slot{h.Session, h.Number, h.Epoch} }

// Table is all that one process of an agent has at one moment.
type Table struct {
	Agent    identity.NodeID
	Boot     identity.BootID
	Holdings []Holding
}

// agentSeen is what was seen of an agent, over all of its processes.
type agentSeen struct {
	fence protocol.Fence // the highest that it has seen
	boot  identity.BootID
	had   map[slot]bool // by the present process
	// newest is the furthest epoch of each slice that the present process ever had.
	newest map[slot]uint32
	// old are those that it had when it stood still for long, and may have no more after
	// oldUntil.
	old       map[slot]bool
	oldUntil  time.Duration
	stoppedAt time.Duration
}

// LongStop is how long a process stands still that has to start anew, for others may have
// what it had (I2), and StopSettles how long it takes to find that out.
const (
	LongStop    = 1300 * time.Millisecond
	StopSettles = 500 * time.Millisecond
)

// stood says that the process goes on.
func (a *agentSeen) stood(at time.Duration) {
	if at-a.stoppedAt >= LongStop {
		a.old, a.oldUntil = maps.Clone(a.had), at+StopSettles
	}
}

func (j *Judge) agent(id identity.NodeID) *agentSeen {
	a := j.agents[id]
	if a == nil {
		a = &agentSeen{had: make(map[slot]bool), newest: make(map[slot]uint32)}
		j.agents[id] = a
	}
	return a
}

// Fence is one that an agent took note of, so that it obeys none below.
func (j *Judge) Fence(at time.Duration, agent identity.NodeID, f protocol.Fence) {
	a := j.agent(agent)
	if less(f, a.fence) {
		j.fail(at, "I6", "%s took fence %s after it had seen %s", j.name(agent), fence(f), fence(a.fence))
		return
	}
	a.fence = f
}

// Tables are those of all agents that can be asked, of one moment.
func (j *Judge) Tables(at time.Duration, tables []Table) {
	tables = slices.Clone(tables)
	slices.SortFunc(tables, func(x, y Table) int { return cmp.Compare(x.Agent.String(), y.Agent.String()) })
	owners := make(map[slot]identity.NodeID)
	for _, t := range tables {
		for _, h := range t.Holdings {
			if j.givenUp(t.Agent, h) {
				continue
			}
			if other, twice := owners[h.slot()]; twice && other != t.Agent {
				j.fail(at, "I3", "%v has two owners: %s and %s", h.slot(), j.name(other), j.name(t.Agent))
			}
			owners[h.slot()] = t.Agent
			j.lookAtGrant(at, t, h)
			j.lookAtLeases(at, t, h)
		}
		j.lookAtFresh(at, t)
	}
}

// givenUp says that an agent was granted a slice in the history that was given up when the mesh was
// recovered, and has heard of no arbiter of the recovered one: when it does, it lets go.
func (j *Judge) givenUp(agent identity.NodeID, h Holding) bool {
	now := j.history.state.Cluster.Incarnation
	return j.former[h.slot()] == agent && h.Fence.Incarnation < now && j.agent(agent).fence.Incarnation < now
}

// lookAtOwners holds I3 in the registry.
func (j *Judge) lookAtOwners(at time.Duration, s *registry.Session) {
	for _, sl := range slices.Concat(s.Retiring, s.Slices) {
		key := slot{s.ID, sl.Number, sl.Epoch}
		now := owner{sl.Agent, sl.Boot, sl.Index, sl.Term, at}
		was, known := j.owned[key]
		if known && (was.agent != now.agent || was.boot != now.boot) {
			j.fail(at, "I3", "the registry gives %v to %s (%d.%d), and had given it to %s (%d.%d)",
				key, j.name(now.agent), now.term, now.index, j.name(was.agent), was.term, was.index)
		}
		if _, said := j.void[key]; sl.State == registry.SliceVoid && !said {
			j.void[key] = at
		}
		if lost, given := j.former[key]; given && !known {
			j.fail(at, "I3", "%v is granted to %s, and was to %s in what was given up", key, j.name(now.agent), j.name(lost))
		}
		if !known {
			j.owned[key] = now
			j.lookAtPrekey(at, key, sl)
		}
	}
}

// lookAtGrant holds that what an agent has was committed for it (I6).
func (j *Judge) lookAtGrant(at time.Duration, t Table, h Holding) {
	was, known := j.owned[h.slot()]
	switch {
	case !known:
		j.fail(at, "I6", "%s has keys of %v, granted under fence %s, which was never committed", j.name(t.Agent), h.slot(), fence(h.Fence))
	case was.agent != t.Agent:
		j.fail(at, "I6", "%s has keys of %v, which was committed for %s (%d.%d)", j.name(t.Agent), h.slot(), j.name(was.agent), was.term, was.index)
	case was.boot != t.Boot:
		j.fail(at, "I6", "%s has keys of %v, which was committed for another process of it (%d.%d)", j.name(t.Agent), h.slot(), was.term, was.index)
	case was.term > h.Fence.Term && h.Fence.Incarnation == j.history.state.Cluster.Incarnation:
		j.fail(at, "I6", "%s has keys of %v by a grant of fence %s, which was committed in term %d", j.name(t.Agent), h.slot(), fence(h.Fence), was.term)
	}
}

// lookAtFresh holds that an agent takes nothing below a fence that it has seen, nor an
// epoch below one that it had (I6).
func (j *Judge) lookAtFresh(at time.Duration, t Table) {
	a := j.agent(t.Agent)
	if a.boot != t.Boot {
		a.boot, a.had, a.newest = t.Boot, make(map[slot]bool), make(map[slot]uint32)
	}
	has := make(map[slot]bool, len(t.Holdings))
	for _, h := range t.Holdings {
		key := h.slot()
		has[key] = true
		if a.old[key] && at > a.oldUntil {
			j.fail(at, "I2", "%s has keys of %v, as before it stood still until %v", j.name(t.Agent), key, a.oldUntil-StopSettles)
		}
		if a.had[key] {
			continue
		}
		if less(h.Fence, a.fence) {
			j.fail(at, "I6", "%s took %v under fence %s, after it had seen %s", j.name(t.Agent), key, fence(h.Fence), fence(a.fence))
		}
		slice := slot{h.Session, h.Number, 0}
		if newest := a.newest[slice]; h.Epoch < newest {
			j.fail(at, "I6", "%s took %v, after it had epoch %d", j.name(t.Agent), key, newest)
		}
		a.newest[slice] = max(a.newest[slice], h.Epoch)
	}
	a.had = has
}
