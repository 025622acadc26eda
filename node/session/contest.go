package session

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// A second takes over when the egress does not answer its probes. If the
// arbiter hears that egress all the same, something on the inside network is
// between the two, and both answer for one address. The arbiter decides at once:
// the second gets the part if it is whole and the egress is not, or if it is
// still asked by the egress, for then it is the egress that does not hear, or if
// the egress is another process than it was: the one before was dead, the second was
// right, and what was opened since lives there alone. Else it gives the address back
// as soon as the egress has said anything since; one that says nothing may have died
// with its host, whose stream ends later.

// contest is the question whose a part is.
type contest struct {
	open   bool
	lost   bool // by the egress
	anew   bool // for it began anew
	second identity.NodeID
	at     time.Duration
	kept   []time.Duration // when the second was turned down, the last MaxContests
}

// openContest asks it once the arbiter hears both. In a new term the egress may come
// after its second, whose word was said by then.
func (a *Arbitrator) openContest(view *registry.State, p registry.Part) {
	w, egress := a.watch(p), a.hosts[p.Egress]
	c := &w.contest
	if !w.taken || c.lost || egress == nil || !egress.up {
		return
	}
	if second := a.hosts[p.Second]; egress.anew && a.now-egress.began < AnewFor && second != nil && second.up && second.sound != Broken {
		c.lost, c.anew = true, true
		a.alert("node %s took %v over from %s, which has begun anew since, and keeps it", name(view, p.Second), p.Prefix, name(view, p.Egress))
		return
	}
	if c.open {
		return
	}
	a.alert("node %s took %v over, but its egress %s is connected: is something between them on the inside network?",
		name(view, p.Second), p.Prefix, name(view, p.Egress))
	c.open, c.second, c.at = true, p.Second, a.now
	unsettled := len(c.kept) == MaxContests && a.now-c.kept[0] < ContestOver && !(w.left && a.now-w.leftAt < ContestHold)
	c.lost = a.sound(p.Second) == Whole && (a.sound(p.Egress) != Whole || w.asked || unsettled)
	if c.lost && egress.sound == Whole {
		egress.sound = Mended // until it says something of itself
	}
}

// judgeContest turns the second down once the egress was heard after it took over.
func (a *Arbitrator) judgeContest(view *registry.State, p registry.Part) {
	w, h := a.watch(p), a.hosts[p.Egress]
	c := &w.contest
	if !c.open || c.lost || h == nil || !h.up || !h.reported || h.reportedAt <= c.at {
		return
	}
	c.open, w.taken = false, false
	if len(c.kept) == MaxContests {
		c.kept = c.kept[1:]
	}
	c.kept = append(c.kept, a.now)
	a.emit(KeepPart{Node: c.second, Part: p.Prefix})
}
