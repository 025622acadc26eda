package check

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TwoOwners is how long two nodes may both answer for one egress address, whether they hear
// each other or not: others pass on what they say. LossyOwners is how long where packets are
// lost or late all over, for they find each other by packets.
const (
	TwoOwners   = time.Second
	LossyOwners = 4 * time.Second
)

// addressSeen is who answers for an address.
type addressSeen struct {
	holders []identity.NodeID // in the order in which they took it
	last    identity.NodeID   // that took it
	both    time.Duration     // since when two do who could know better; negative: they do not
	owners  []identity.NodeID // who did then
	said    bool              // that it was for too long
}

// Holds says that a node began to answer for an egress address, or ended to.
func (j *Judge) Holds(at time.Duration, node identity.NodeID, address netip.Addr, so bool) {
	j.Tick(at)
	a := j.holders[address]
	if a == nil {
		a = &addressSeen{both: -1}
		j.holders[address] = a
		j.addresses = append(j.addresses, address)
	}
	a.holders = slices.DeleteFunc(a.holders, func(o identity.NodeID) bool { return o == node })
	if so {
		j.lookAtTaking(at, node, address, a.last)
		a.holders, a.last = append(a.holders, node), node
	}
	j.Tick(at)
}

// Gone says that a node's process ended: its addresses go with it, and the ways through it.
func (j *Judge) Gone(at time.Duration, node identity.NodeID) {
	j.gone[node] = at
	for _, address := range j.addresses {
		j.Holds(at, node, address, false)
	}
	j.Stopped(at, node, false)
	j.agent(node).old = nil
}

// Stopped says that a node stands still, or goes on. Who stands still can let nothing go.
func (j *Judge) Stopped(at time.Duration, node identity.NodeID, so bool) {
	j.Tick(at)
	if a := j.agent(node); so {
		a.stoppedAt = at
	} else if j.stopped[node] {
		a.stood(at)
	}
	j.stopped[node] = so
	j.Tick(at)
}

// Apart says that two nodes do not hear each other, or do. Without a quorum that could
// tell them, both go on.
func (j *Judge) Apart(at time.Duration, one, other identity.NodeID, so bool) {
	j.Tick(at)
	j.apart[pair(one, other)] = so
	j.Tick(at)
}

func pair(one, other identity.NodeID) [2]identity.NodeID {
	if other.String() < one.String() {
		one, other = other, one
	}
	return [2]identity.NodeID{one, other}
}

// Tick lets time pass for what takes too long.
func (j *Judge) Tick(at time.Duration) {
	for _, address := range j.addresses {
		a := j.holders[address]
		bad := j.contested(a.holders)
		if a.both >= 0 && !a.said && at > j.deadline(a) {
			a.said = true
			until := j.deadline(a)
			j.fail(until, "one egress", "%v has had two owners for more than %v: %s", address, until-a.both, j.names(a.owners))
		}
		switch {
		case len(bad) < 2:
			a.both, a.said = -1, false
		case a.both < 0:
			a.both, a.owners = at, bad
		}
	}
}

// deadline is until when two may both own an address.
func (j *Judge) deadline(a *addressSeen) time.Duration {
	within := TwoOwners
	if j.lossy || a.both <= j.clear+TwoOwners {
		within = LossyOwners
	}
	return a.both + within
}

// Lossy says that packets are lost or late all over, or are not.
func (j *Judge) Lossy(at time.Duration, so bool) {
	j.Tick(at)
	if j.lossy && !so {
		j.clear = at
	}
	j.lossy = so
}

// contested are those who both answer for an address and could know better.
func (j *Judge) contested(holders []identity.NodeID) []identity.NodeID {
	for i, one := range holders {
		for _, other := range holders[i+1:] {
			excused := j.stopped[one] || j.stopped[other] || !j.config.Quorum && j.apart[pair(one, other)]
			if !excused {
				return []identity.NodeID{one, other}
			}
		}
	}
	return nil
}

func (j *Judge) names(ids []identity.NodeID) string {
	var all []string
	for _, id := range ids {
		all = append(all, j.name(id))
	}
	return strings.Join(all, " and ")
}
