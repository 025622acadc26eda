package session

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// partWatch is what this term knows of a part of the pool.
type partWatch struct {
	epoch    uint64
	proposal Tag
	taken    bool // its second took the inside address over, in this epoch
	asked    bool // and the egress asks it still
	contest  contest
	leftAt   time.Duration // a broken egress was left, or a contest decided against it
	left     bool
}

func (a *Arbitrator) watch(p registry.Part) *partWatch {
	key := p.Prefix.String()
	w := a.parts[key]
	if w == nil {
		w = &partWatch{epoch: p.Epoch}
		a.parts[key] = w
	}
	if w.epoch != p.Epoch {
		w.epoch, w.taken = p.Epoch, false
		w.contest.open, w.contest.lost, w.contest.anew = false, false, false
	}
	return w
}

// tendParts sees that every part has an egress and, where there is another
// node, a second.
func (a *Arbitrator) tendParts(view *registry.State) {
	a.partsDue = false
	for _, p := range view.Parts {
		if a.watch(p).proposal != 0 {
			continue
		}
		a.partsDue = a.partsDue || a.uneasy(p)
		a.openContest(view, p)
		a.judgeContest(view, p)
		egress, second := a.egressOf(view, p)
		if node := view.Nodes[egress]; node == nil || node.Removed || node.Drained {
			continue // nobody else is able
		}
		if egress == p.Egress && second == p.Second {
			continue
		}
		a.noteLeft(view, p, egress)
		a.watch(p).proposal = a.propose(registry.Command{MovePart: &registry.MovePart{
			Prefix: p.Prefix, Epoch: p.Epoch, Egress: egress, Second: second,
		}})
		a.partsDue = true
	}
}

// uneasy says that time may change who should have a part: its egress or second is
// away, says that it does not forward, or is contested. Else only an event does.
func (a *Arbitrator) uneasy(p registry.Part) bool {
	for _, id := range []identity.NodeID{p.Egress, p.Second} {
		if h := a.hosts[id]; !id.IsZero() && (h == nil || !h.up || h.sound == Broken) {
			return true
		}
	}
	w := a.watch(p)
	return w.taken || w.contest.open
}

// egressOf is who should be egress and second of a part now. The egress stays
// while it can; its second comes next.
func (a *Arbitrator) egressOf(view *registry.State, p registry.Part) (egress, second identity.NodeID) {
	able := a.egressesByLoad(view, p)
	egress = p.Egress
	switch {
	case !a.keepsEgress(view, p, able):
		egress = cmp.Or(pick(able, p.Second, identity.NodeID{}), p.Egress)
	case a.sound(p.Egress) == Broken:
		egress = cmp.Or(a.relief(p, able), p.Egress)
	}
	second = p.Second
	switch {
	case second == egress || !a.mayEgress(view, p, second) || a.goneFor(second, EgressGrace):
		second = pick(able, identity.NodeID{}, egress)
	case a.sound(second) == Broken:
		second = cmp.Or(pick(able, identity.NodeID{}, egress), second)
	}
	return egress, second
}

// noteLeft remembers when a part left an egress that lives, and says so.
func (a *Arbitrator) noteLeft(view *registry.State, p registry.Part, egress identity.NodeID) {
	w, h := a.watch(p), a.hosts[p.Egress]
	if egress == p.Egress || h == nil || !h.up || h.sound != Broken && (!w.contest.lost || w.contest.anew) {
		return
	}
	w.left, w.leftAt = true, a.now
	a.alert("part %v leaves its egress %s, which is connected and does not forward, for %s",
		p.Prefix, name(view, p.Egress), name(view, egress))
}

// relief is who takes a part from an egress that is broken, though it lives:
// its second, if that is whole, else another that is. One that was broken
// itself a while ago does only when there is no other, and not often: a part
// is not to go back and forth between two hosts that are well by turns. Who says
// nothing just now may be dead, though its stream is not over yet: it is passed over,
// and where nobody else can the part waits until it speaks, or is.
func (a *Arbitrator) relief(p registry.Part, able []identity.NodeID) identity.NodeID {
	able = slices.DeleteFunc(slices.Clone(able), func(id identity.NodeID) bool { return a.hosts[id].suspect(a.now) })
	whole := slices.DeleteFunc(slices.Clone(able), func(id identity.NodeID) bool { return a.sound(id) != Whole })
	if len(whole) > 0 {
		return pick(whole, p.Second, p.Egress)
	}
	if w := a.parts[p.Prefix.String()]; w != nil && w.left && a.now-w.leftAt < MendedHold {
		return identity.NodeID{}
	}
	return pick(able, p.Second, p.Egress)
}

// keepsEgress says that the present egress is to go on: it lives, or it has
// just gone and its second did not say that it took over. At the start of a term
// it may only be later with its stream than its second: it has TakenGrace to come.
// The arbiter's own node gives the role to another, but not from under a session.
func (a *Arbitrator) keepsEgress(view *registry.State, p registry.Part, able []identity.NodeID) bool {
	if p.Egress == a.self && len(able) >= 3 && able[0] != a.self && !leased(view, p) {
		return false
	}
	if !a.mayEgress(view, p, p.Egress) || a.goneFor(p.Egress, EgressGrace) {
		return false
	}
	h, w := a.hosts[p.Egress], a.watch(p)
	late := h == nil || !h.seen && a.now-a.start < TakenGrace
	return !w.taken || late || h.up && !w.contest.lost
}

// leased says that an active session has its address from the part.
func leased(view *registry.State, p registry.Part) bool {
	for _, s := range view.Sessions.Active() {
		if slices.ContainsFunc(s.Leases, p.Contains) {
			return true
		}
	}
	return false
}

// mayEgress says that a node may face the inside network for the clients of a
// part.
func (a *Arbitrator) mayEgress(view *registry.State, p registry.Part, id identity.NodeID) bool {
	node := view.Nodes[id]
	return node != nil && mayCarry(node) && node.Inside.IsValid() && (attached(node, p) || nowhere(view, p))
}

// attached says that a node's neighbours are those who ask for the part's moving
// addresses. Behind a router nobody would hear it say that it has them.
func attached(node *registry.Node, p registry.Part) bool {
	return !slices.ContainsFunc(p.Insides(), func(inside netip.Addr) bool { return !node.Attached(inside) })
}

// nowhere says that no member is attached to where the part's moving addresses
// are: then its operator has other means.
func nowhere(view *registry.State, p registry.Part) bool {
	for _, node := range view.Nodes {
		if !node.Removed && attached(node, p) {
			return false
		}
	}
	return true
}

// egressesByLoad is the nodes that may be the part's egress, have a stream and
// are not broken: whole ones first, of them the one with the fewest parts; the
// arbiter's own last while two others can.
func (a *Arbitrator) egressesByLoad(view *registry.State, part registry.Part) []identity.NodeID {
	parts := map[identity.NodeID]int{}
	for _, p := range view.Parts {
		parts[p.Egress]++
	}
	var able []identity.NodeID
	for id := range view.Nodes {
		if h := a.hosts[id]; h != nil && h.up && h.sound != Broken && a.mayEgress(view, part, id) {
			able = append(able, id)
		}
	}
	enough := len(able) >= 3
	slices.SortFunc(able, func(x, y identity.NodeID) int {
		return cmp.Or(
			cmp.Compare(a.sound(x), a.sound(y)),
			compareBool(enough && x == a.self, enough && y == a.self),
			cmp.Compare(parts[x], parts[y]),
			cmp.Compare(a.hosts[x].used, a.hosts[y].used),
			cmp.Compare(view.Nodes[x].Index, view.Nodes[y].Index))
	})
	return able
}

// pick is the favourite if it is able, else the first who is not excluded.
func pick(able []identity.NodeID, favourite, excluded identity.NodeID) identity.NodeID {
	if slices.Contains(able, favourite) {
		return favourite
	}
	for _, id := range able {
		if id != excluded {
			return id
		}
	}
	return identity.NodeID{}
}

// takeover believes a second when the arbiter has lost the egress too. Else the
// two are of different minds, and both hold the inside address: see contest.go.
func (a *Arbitrator) takeover(view *registry.State, e Takeover) {
	for _, p := range view.Parts {
		if p.Prefix != e.Part || p.Second != e.Node {
			continue
		}
		w := a.watch(p)
		w.taken, w.asked = true, e.Asked
	}
	a.tendParts(view)
	a.partsDue = true
}

// condition takes a node's word on itself.
func (a *Arbitrator) condition(view *registry.State, e Condition) {
	h := a.host(e.Node)
	if node := view.Nodes[e.Node]; node == nil || h.sound == e.Is {
		return
	}
	h.sound = e.Is
	a.doubt(e.Node)
	a.tendParts(view)
	a.partsDue = true
}

// sound is a node's last word on itself; who never said anything is whole.
func (a *Arbitrator) sound(id identity.NodeID) Soundness {
	if h := a.hosts[id]; h != nil {
		return h.sound
	}
	return Whole
}

func (a *Arbitrator) moveOutcome(view *registry.State, c *registry.MovePart, r registry.Result) {
	if w := a.parts[c.Prefix.String()]; w != nil {
		w.proposal = 0
	}
	a.partsDue = true
	if !ok(r) && !stale(r) {
		a.alert("part %v can't be moved: %s %s", c.Prefix, r.Code, r.Detail)
	}
}

// moveUnknown decides anew instead of repeating itself: who was to have the part may not
// forward any more. Of two moves of one epoch the log takes one.
func (a *Arbitrator) moveUnknown(tag Tag, c *registry.MovePart) {
	delete(a.proposals, tag)
	if w := a.parts[c.Prefix.String()]; w != nil && w.proposal == tag {
		w.proposal = 0
	}
	a.partsDue = true
}

// name is a node's name for the operator's eyes.
func name(view *registry.State, id identity.NodeID) string {
	if node := view.Nodes[id]; node != nil && node.Name != "" {
		return node.Name
	}
	return id.Short()
}
