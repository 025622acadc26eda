package check

import (
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Settled is how long after the last fault nothing of it is left that would make a second
// take over. Sudden is how long after a fault nobody can know of it yet: a node is silent
// after three probes that were not answered, and the first of them may have been on its way.
const (
	Settled = 5 * time.Second
	Sudden  = 150 * time.Millisecond
)

// calm is what went wrong lately.
type calm struct {
	wrong int           // faults, just now
	since time.Duration // when that changed last
	quiet bool          // there was nothing for Settled before the only one of now
}

// Wrong says how many things are wrong from now on.
func (j *Judge) Wrong(at time.Duration, faults int) {
	j.calm = calm{wrong: faults, since: at, quiet: faults == 1 && j.calmAt(at)}
}

// calmAt says that nobody can know of a fault at that time.
func (j *Judge) calmAt(at time.Duration) bool {
	c := j.calm
	return j.settled(at) || c.quiet && c.wrong == 1 && at-c.since < Sudden
}

// settled says that nothing is wrong, nor was lately.
func (j *Judge) settled(at time.Duration) bool {
	return j.calm.wrong == 0 && at-j.calm.since >= Settled
}

// naming is an arbiter's word on who has an address.
type naming struct {
	address netip.Addr
	egress  identity.NodeID
}

// lookAtParts remembers who was named. A node may hear of it a little later.
func (j *Judge) lookAtParts(at time.Duration, c registry.Command) {
	if c.MovePart == nil {
		return
	}
	for _, p := range j.history.state.Parts {
		for _, inside := range p.Insides() {
			j.named[naming{inside, p.Egress}] = at
		}
	}
}

// lookAtTaking holds that nobody takes an address for nothing: whoever had it was heard,
// and no arbiter gave it to another.
func (j *Judge) lookAtTaking(at time.Duration, node identity.NodeID, address netip.Addr, had identity.NodeID) {
	named, ever := j.named[naming{address, node}]
	if had == node || had.IsZero() || ever && at-named < Settled || j.isNamed(address, node) || !j.calmAt(at) {
		return
	}
	j.fail(at, "one egress", "%s took %v, which %s had: nothing kept that one from being heard, or nobody could know of it yet",
		j.name(node), address, j.name(had))
}

// isNamed reports whether the registry names a node for an address.
func (j *Judge) isNamed(address netip.Addr, node identity.NodeID) bool {
	for _, p := range j.history.state.Parts {
		for _, inside := range p.Insides() {
			if inside == address && p.Egress == node {
				return true
			}
		}
	}
	return false
}
