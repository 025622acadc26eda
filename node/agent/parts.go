package agent

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// part is one pool part with its moving inside address.
type part struct {
	row     registry.Part
	held    bool // this host answers for the inside address
	taken   bool // taken over as second; the arbiter has not confirmed yet
	takenAt time.Duration
	// relieved: taken from an egress that answers and says that it does not forward.
	relieved bool
	yielded  bool // left to the second, which relieved this node, without an arbiter's word
	lapsed   bool // let go, for this node was cut off, or another has a higher right
	claim    claimState
	notUntil time.Duration // this node takes it over no sooner
	// former is the egress that an arbiter gave the part from to this one, while it may not
	// know; zero: it does.
	former identity.NodeID
}

// learnPart obeys the arbiter's word on who is egress; an older epoch is ignored. A mesh
// that was restored counts on from a lower one: what its arbiter says is newer all the same.
func (a *Agent) learnPart(row registry.Part) {
	p := a.view.parts[row.Prefix]
	if p == nil {
		if len(a.view.parts) >= MaxParts {
			return
		}
		p = &part{}
		a.view.parts[row.Prefix] = p
	}
	restored := a.floor.Incarnation > p.claim.incarnation
	if row.Epoch < p.row.Epoch && !restored {
		return
	}
	if row.Epoch > p.row.Epoch || restored {
		if p.held && row.Egress != a.config.Key.ID() {
			p.notUntil = a.config.Now() + TakeoverHold
		}
		p.taken, p.relieved, p.yielded, p.lapsed = false, false, false, false
		p.claim = claimState{}
		if p.row.Egress != row.Egress {
			p.former = p.row.Egress
		}
	}
	p.claim.incarnation = a.floor.Incarnation
	p.row = row
	a.hidePart(p)
	a.settlePart(p)
	a.followParts()
	if p.taken { // said before to an arbiter that may have died with it
		a.sayTaken(p, a.config.Now())
	}
}

// hidePart tells the host behind which address the part's leases are hidden,
// before it may be the one that does it.
func (a *Agent) hidePart(p *part) {
	if a.view.egress != registry.EgressMasquerade {
		return
	}
	for _, r := range p.row.Ranges() {
		if !r.Inside.IsValid() {
			continue
		}
		if err := a.config.Host.Hide(r.Prefix, r.Inside); err != nil {
			a.config.Log.Error("leases not hidden", "pool", r.Prefix, "address", r.Inside, "error", err)
		}
	}
}

// followParts has the flows of every egress copied that this node stands
// behind. Flows hidden behind an egress's own address die with it, so they are
// not.
func (a *Agent) followParts() {
	if a.view.egress != registry.EgressMasquerade {
		return
	}
	behind := make(map[identity.NodeID][]registry.Part)
	for _, p := range a.view.partsInOrder() {
		if p.row.Second == a.config.Key.ID() && !p.taken && len(p.row.Insides()) > 0 && !p.row.Egress.IsZero() {
			behind[p.row.Egress] = append(behind[p.row.Egress], p.row)
		}
	}
	a.config.Follow(behind)
}

// Feeds reports whether this node is egress of all these parts and the other
// one their second: then it may have their flows.
func (a *Agent) Feeds(ctx context.Context, second identity.NodeID, prefixes []netip.Prefix) (yes bool) {
	return a.ask(ctx, func() {
		yes = len(prefixes) > 0 && !slices.ContainsFunc(prefixes, func(prefix netip.Prefix) bool {
			p := a.view.partWith(prefix)
			return p == nil || !p.held || p.row.Second != second
		})
	}) && yes
}

// partsInOrder are by prefix: what is done about several at once is done in one order.
func (v *viewState) partsInOrder() []*part {
	return slices.SortedFunc(maps.Values(v.parts), func(x, y *part) int { return x.row.Prefix.Compare(y.row.Prefix) })
}

// partWith finds the part that has a range, of whatever family.
func (v *viewState) partWith(prefix netip.Prefix) *part {
	for _, p := range v.parts {
		if p.row.Prefix == prefix || p.row.Other.Prefix == prefix {
			return p
		}
	}
	return nil
}

// settlePart holds the inside addresses exactly while this node is egress.
func (a *Agent) settlePart(p *part) {
	mine := p.row.Egress == a.config.Key.ID() && !p.yielded && !p.lapsed || p.taken
	insides := p.row.Insides()
	if len(insides) == 0 || mine == p.held {
		return
	}
	move := a.config.Host.ReleaseAddress
	if mine {
		move = a.config.Host.HoldAddress
	}
	var failed error
	for _, inside := range insides {
		failed = errors.Join(failed, move(inside))
	}
	if failed != nil {
		a.config.Log.Error("inside address not moved", "address", insides, "error", failed)
		if mine {
			a.holdNone(insides)
		}
		return
	}
	p.held = mine
	said := "no longer egress"
	if mine {
		said = "now egress"
	}
	a.config.Log.Info(said, "pool", p.row.Prefix, "inside_address", insides)
}

// holdNone undoes half a hold: the next word about the part tries all of it again.
func (a *Agent) holdNone(insides []netip.Addr) {
	for _, inside := range insides {
		_ = a.config.Host.ReleaseAddress(inside) // one that is not held is no error
	}
}
