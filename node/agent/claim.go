package agent

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Two nodes may hold one inside address after all: where one node votes, and always
// when a link is healed. The host sees that somebody else answers for it (RFC 5227;
// neighbor advertisements in IPv6). What it sees anybody can send, so nothing is let
// go for it: the node says to all others by what right it holds the address, and of two
// that do the one with the lower right lets go. It is not asked by ARP before an
// address is held: a second cannot wait for that, and knows who else may have it.

// Rival is the host's word that another one answers for an address of this node. It
// may come with every packet of somebody, and shares the loop's queue with the arbiter's
// word, so it is passed on once a tick.
func (a *Agent) Rival(address netip.Addr) {
	if a.rivalPace.due(address, a.config.Now()) {
		a.enqueue(rivalSeen{address})
	}
}

// rivalPace is when the loop was told last of a rival, by the address. It holds what is
// of the last tick, and so as many as this node has addresses.
type rivalPace struct {
	mu sync.Mutex // protects at
	at map[netip.Addr]time.Duration
}

func (r *rivalPace) due(address netip.Addr, now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.at, func(_ netip.Addr, at time.Duration) bool { return now-at >= TickEvery })
	if _, told := r.at[address]; told {
		return false
	}
	if r.at == nil {
		r.at = make(map[netip.Addr]time.Duration)
	}
	r.at[address] = now
	return true
}

type rivalSeen struct{ address netip.Addr }

func (e rivalSeen) apply(a *Agent) {
	p, now := a.view.partOf(e.address), a.config.Now()
	if p == nil || !p.held {
		return
	}
	if p.claim.rivalAt == 0 || now-p.claim.rivalAt > RivalGap {
		p.claim.rivalSince = now
	}
	p.claim.rivalAt = now
	a.contest(p, now)
}

// claimState is what is known of a part's other holders.
type claimState struct {
	incarnation uint64         // of the arbiter that said whose the part is
	rivalSince  time.Duration  // another host answers for an address of it
	rivalAt     time.Duration  // it was last seen to
	saidAt      time.Duration  // this node's own claim
	toldAt      time.Duration  // this node told the egress that it took over from it
	heardAt     time.Duration  // another node's that holds it
	cededAt     time.Duration  // this node let go for one of those
	defend      bool           // another is letting go: the neighbours are to be told
	doubtedAt   time.Duration  // one was doubted, for an arbiter had said otherwise
	doubted     identity.Index // whom it came from
	// claimant is who claimed the part last and is not its egress, as far as is known here.
	claimant identity.Index
}

// contest says to all other nodes that this one holds a part. It does not against one
// that it relieved, and not while it does not forward itself: those two agree by what
// they say of themselves (see superviseRelief).
func (a *Agent) contest(p *part, now time.Duration) {
	c := &p.claim
	if c.saidAt != 0 && now-c.saidAt < ContestEvery || p.relieved || a.sound.is == protocol.Broken {
		return
	}
	c.saidAt = now
	a.claimAtAll(p, probe.ClaimHolds)
}

// contestWith is for an egress that is heard again after this node took over from it.
func (a *Agent) contestWith(egress protocol.NodeRow, now time.Duration) {
	for _, p := range a.view.partsInOrder() {
		if p.taken && p.row.Egress == egress.ID {
			a.contest(p, now)
		}
	}
}

// tellTaken says that this node took over from a silent egress: that one may hear, and only
// not be heard, or hear what others pass on.
func (a *Agent) tellTaken(p *part, now time.Duration) {
	if p.claim.toldAt < p.takenAt || now-p.claim.toldAt >= ContestEvery {
		p.claim.toldAt = now
		a.claimAtAll(p, probe.ClaimHolds)
	}
}

// claimAtAll sends a claim to every other member.
func (a *Agent) claimAtAll(p *part, kind probe.ClaimKind) {
	for _, n := range a.view.nodes {
		if n.Index != a.config.Index && n.Inside.IsValid() {
			a.claimAt(n.Index, p, kind)
		}
	}
}

func (a *Agent) claimAt(to identity.Index, p *part, kind probe.ClaimKind) {
	insides := p.row.Insides()
	if len(a.view.key) == 0 || len(insides) == 0 {
		return
	}
	a.sendClaim(to, probe.Claim{From: a.config.Index, Address: insides[0], Kind: kind, Right: a.right(p)})
}

func (a *Agent) sendClaim(to identity.Index, c probe.Claim) {
	b := c.Marshal(a.view.key)
	_ = a.config.Inside.Send(b, len(b), link.Path{Remote: a.insideOf(a.view.nodes[to])}) // repeated while it matters
}

// passOn gives a claim to those whom it is about. They may not hear each other while this
// node hears both, and where one of them is at the arbiter's host nobody else could tell
// the other. Only what comes from the claimant's own address is passed on, so no claim goes
// round.
func (a *Agent) passOn(p *part, c probe.Claim) {
	told := map[identity.Index]bool{c.From: true, a.config.Index: true}
	for _, to := range []identity.Index{a.view.ids[p.row.Egress], a.view.ids[p.row.Second], a.view.ids[p.former], p.claim.claimant} {
		if !told[to] && a.view.nodes[to].Inside.IsValid() {
			told[to] = true
			a.sendClaim(to, c)
		}
	}
	if c.From != a.view.ids[p.row.Egress] {
		p.claim.claimant = c.From
	}
}

// right is by what this node holds a part, or held it.
func (a *Agent) right(p *part) probe.Right {
	return probe.Right{Incarnation: p.claim.incarnation, Epoch: p.row.Epoch, Given: p.row.Egress == a.config.Key.ID()}
}

// partOf finds the part that a moving address belongs to.
func (v *viewState) partOf(inside netip.Addr) *part {
	for _, p := range v.parts {
		if slices.Contains(p.row.Insides(), inside) {
			return p
		}
	}
	return nil
}

// claimed is another node's claim, and the address that it came from.
type claimed struct {
	by netip.Addr
	probe.Claim
}

// back is who an answer goes to: the claimant, or who passed its claim on.
func (e claimed) back(a *Agent) identity.Index {
	for index, n := range a.view.nodes {
		if n.Inside == e.by {
			return index
		}
	}
	return e.From
}

func (e claimed) apply(a *Agent) {
	p, now := a.view.partOf(e.Address), a.config.Now()
	if a.view.nodes[e.From].Index == 0 || e.From == a.config.Index || p == nil {
		a.rejects.count("claim-refused")
		return
	}
	mine, holds := a.right(p), e.Kind == probe.ClaimHolds
	if !p.held && e.by == a.view.nodes[e.From].Inside {
		a.passOn(p, e.Claim)
	}
	switch {
	case !p.held && holds:
		if !e.Right.Older(mine) { // else it was so once, or will not be for long
			p.claim.heardAt = now
		}
	case !p.held, p.relieved, a.sound.is == protocol.Broken:
	case holds && a.footing.is == worded && !p.taken && !e.Right.Older(mine):
		a.leaveTo(e.From, now)
	case a.doubts(e.Claim, mine, now):
		a.rejects.count("claim-doubted") // and not answered: two that doubt each other would go on for ever
		p.claim.doubted, p.claim.doubtedAt = e.back(a), now
	case holds && (mine.Below(e.Right) || mine == e.Right && e.From < a.config.Index), mine.Older(e.Right):
		a.cede(p, e.From, now)
	default:
		p.claim.defend = p.claim.defend || holds
		a.claimAt(e.back(a), p, probe.ClaimHolds)
	}
}

// leaveTo believes a second that took over from a node which no other node answers. It
// is not heard, so its own claim would not be, and an arbiter whose word arrives still has
// yet to notice. A claim by an earlier decision than this node's says nothing of that: it
// may be an old datagram, which anybody on the inside network can send again.
func (a *Agent) leaveTo(second identity.Index, now time.Duration) {
	a.config.Log.Warn("no other node answers, and one says that it has taken over; letting go", "node", a.view.nodes[second].Name)
	a.footing.lose(now)
	a.changes.mesh = true
}

// doubts reports whether a claim is by a later decision than the arbiter's that this node
// has, while one speaks: it would say so itself, within ClaimWord. All members share the
// key of claims, so without that any of them could keep every egress from its addresses.
// An arbiter that was left behind by a recovery elsewhere knows nothing of that, so here
// the other one's signature decides.
func (a *Agent) doubts(c probe.Claim, mine probe.Right, now time.Duration) bool {
	switch {
	case !mine.Older(c.Right), a.withoutArbiter(now), now-a.wordAt >= ClaimWord:
		return false
	case c.Incarnation > mine.Incarnation:
		return a.config.Recovered == nil || !a.config.Recovered(a.view.nodes[c.From], c.Incarnation)
	}
	return true
}

// cede leaves a part to a holder of a higher right, until an arbiter says whose it is
// or no holder is heard any more.
func (a *Agent) cede(p *part, to identity.Index, now time.Duration) {
	a.config.Log.Warn("another node has this part by a higher right; letting go", "node", a.view.nodes[to].Name, "prefix", p.row.Prefix)
	p.claim.cededAt, p.claim.heardAt = now, now
	a.footing.losses++ // what the arbiter answered before says nothing of this
	if p.taken {
		a.giveBack(p)
		return
	}
	a.lapse(p, true)
}

// claimedStill reports whether the egress, or who has its part, says so although the egress
// does not answer this node: others hear it, and pass it on. What came with the last answer
// shows nothing, for it may have died since.
func (a *Agent) claimedStill(p *part, now time.Duration) bool {
	egress, heardAt := a.probes.peers[a.view.nodeByID(p.row.Egress).Index], p.claim.heardAt
	return p.row.Second == a.config.Key.ID() && !p.taken && egress != nil && egress.silent &&
		heardAt >= egress.heardAt+AskedBeyond && now-heardAt <= ClaimedLately
}

// superviseClaim asks for holders of a part that this node might take, or take back, and tells
// the neighbours again whose it is when another node has let go. Who made a claim that was
// doubted is asked as soon as the arbiter's word is too old to doubt it for: what it decided
// on the other side of a fault is not said again before ContestEvery, if at all.
func (a *Agent) superviseClaim(p *part, now time.Duration) {
	if p.held && p.claim.doubted != 0 && now-p.claim.doubtedAt <= 2*ClaimWord && now-a.wordAt >= ClaimWord {
		a.claimAt(p.claim.doubted, p, probe.ClaimAsks)
	}
	switch {
	case (p.lapsed || a.claimedStill(p, now)) && a.footing.is == firm && a.ticks%LoadTicks == 0:
		a.claimAtAll(p, probe.ClaimAsks)
	case p.held && p.claim.defend:
		for _, inside := range p.row.Insides() {
			_ = a.config.Host.HoldAddress(inside) // it is told again anyway, later
		}
	}
	p.claim.defend = false
}

// rivals are addresses of this node that a host which is no member of the mesh
// answers for too.
func (a *Agent) rivals(now time.Duration) (all []netip.Addr) {
	for _, p := range a.view.partsInOrder() {
		if c := p.claim; p.held && c.rivalAt != 0 && now-c.rivalAt <= RivalGap && now-c.rivalSince >= RivalAfter {
			all = append(all, p.row.Insides()...)
		}
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return all
}
