package agent

import (
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// superviseParts lets a second take over from a silent egress without an
// election; the arbiter confirms later under its fence, or keeps the egress.
// Where there is no arbiter, also from one that says that it does not forward:
// the second takes first, then the egress lets go.
func (a *Agent) superviseParts(now time.Duration) {
	for _, p := range a.view.partsInOrder() {
		switch a.config.Key.ID() {
		case p.row.Second:
			a.superviseSecond(p, now)
		case p.row.Egress:
			a.superviseRelief(p, now)
			a.superviseFormer(p, now)
		}
	}
}

func (a *Agent) superviseSecond(p *part, now time.Duration) {
	egress := a.view.nodeByID(p.row.Egress)
	silent := a.gone(egress, now)
	broken := a.saysBroken(egress)
	switch {
	case egress.Index == 0:
	case p.taken && !silent && !broken:
		a.yieldPart(p, egress, now)
	case p.taken && silent && !p.relieved:
		a.tellTaken(p, now)
	case !p.taken && silent && a.mayTake(p, egress, now):
		a.takePart(p, egress, now)
	case !p.taken && broken && a.withoutArbiter(now) && a.mayTake(p, egress, now):
		p.relieved = true
		a.takePart(p, egress, now)
	}
}

// gone reports whether a node stopped answering, or has not been heard since this one
// began to ask, neither by it nor by the arbiter: it is not there yet, or no more, as
// after the recovery of a mesh that lost its founder.
func (a *Agent) gone(n protocol.NodeRow, now time.Duration) bool {
	p := a.probes.peers[n.Index]
	if p == nil || p.heard {
		return p != nil && p.silent
	}
	return !a.withoutArbiter(now) && !n.Up && now-p.heardAt > AbsentAfter
}

// mayTake reports whether this node can do better than the egress, as far as it
// knows. One that hears nothing is the one that was cut off; where the arbiter
// hears the egress, such a node leaves the decision to it.
func (a *Agent) mayTake(p *part, egress protocol.NodeRow, now time.Duration) bool {
	heard := !a.withoutArbiter(now) && egress.Up
	switch {
	case a.aloneLately(now), a.footing.is == lost, a.sound.is == protocol.Broken, a.claimedStill(p, now):
		return false
	case heard && now < p.notUntil, p.claim.cededAt != 0 && now-p.claim.cededAt < TakeoverHold:
		return false
	}
	return !heard || a.deafTo(now) == ""
}

// saysBroken reports whether a node answers and says that it does not forward.
func (a *Agent) saysBroken(n protocol.NodeRow) bool {
	p := a.probes.peers[n.Index]
	return p != nil && p.answers() && p.says&probe.SaysBroken != 0
}

// superviseRelief lets go of a part that this node cannot serve once its second
// has it, where no arbiter says whose it is.
func (a *Agent) superviseRelief(p *part, now time.Duration) {
	second := a.probes.peers[a.view.nodeByID(p.row.Second).Index]
	relieved := second != nil && second.answers() && second.says&probe.SaysTaken != 0
	if p.yielded == relieved || !p.yielded && (!a.withoutArbiter(now) || a.sound.is != protocol.Broken) {
		return
	}
	p.yielded = relieved
	a.settlePart(p)
	a.changes.mesh = true
}

// superviseFormer goes on to say whose a part is to its former egress, as long as that one
// has no arbiter to say it: it may hear this node and one more, and not be heard here.
func (a *Agent) superviseFormer(p *part, now time.Duration) {
	switch former := a.view.nodeByID(p.former); {
	case p.former.IsZero():
	case former.Index == 0 || former.Up:
		p.former = identity.NodeID{}
	default:
		a.tellTaken(p, now)
	}
}

func (a *Agent) takePart(p *part, egress protocol.NodeRow, now time.Duration) {
	p.taken, p.takenAt = true, now
	why := "egress is silent; taking over"
	if p.relieved {
		why = "egress does not forward; taking over"
	}
	a.config.Log.Warn(why, "egress", egress.Name, "prefix", p.row.Prefix)
	a.followParts()
	a.settlePart(p)
	a.changes.mesh = true
	a.sayTaken(p, now)
}

func (a *Agent) sayTaken(p *part, now time.Duration) {
	egress := a.probes.peers[a.view.nodeByID(p.row.Egress).Index]
	a.say(&protocol.Node{TakeOver: &protocol.TakeOver{
		Prefix: p.row.Prefix, Epoch: p.row.Epoch, Asked: egress != nil && egress.silent && egress.asksStill(now),
	}})
}

// yieldPart gives back what the arbiter had time to confirm and did not,
// because it still hears the egress, and so do we again: two hosts must not
// answer for one address for long.
func (a *Agent) yieldPart(p *part, egress protocol.NodeRow, now time.Duration) {
	heard := a.stream != nil && a.stream.fenced && egress.Up
	if !heard || now-p.takenAt < TakeoverWait {
		return
	}
	a.config.Log.Warn("egress is heard again; giving back", "egress", egress.Name, "prefix", p.row.Prefix)
	a.giveBack(p)
}

// keepPart obeys the arbiter, which hears the egress and keeps it.
func (a *Agent) keepPart(prefix netip.Prefix) {
	p := a.view.parts[prefix]
	if p == nil || !p.taken {
		return
	}
	p.notUntil = a.config.Now() + TakeoverHold
	a.config.Log.Warn("the arbiter hears the egress and keeps it; giving back",
		"egress", a.view.nodeByID(p.row.Egress).Name, "prefix", prefix)
	a.giveBack(p)
}

func (a *Agent) giveBack(p *part) {
	p.taken, p.relieved = false, false
	a.followParts()
	a.settlePart(p)
	a.changes.mesh = true
}

// alone reports whether every probed node is silent though there are several:
// then it is this node that was cut off, and it takes over nothing.
func (a *Agent) alone() bool {
	if len(a.probes.peers) < 2 {
		return false
	}
	for _, p := range a.probes.peers {
		if p.heard && !p.silent {
			return false
		}
	}
	return true
}

// aloneLately reports whether the egress may not have had the time to answer since this
// node was alone: of those that are heard again one is the first.
func (a *Agent) aloneLately(now time.Duration) bool {
	return a.probes.aloneAt != 0 && now-a.probes.aloneAt <= ProbeMisses*TickEvery
}
