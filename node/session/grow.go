package session

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// grow adds a slice to a healthy session that has fewer than it needs, or a
// spare to one of a single slice, at most every GrowEvery. While two slices are
// on one node it spreads them instead: more slices would not help.
func (a *Arbitrator) grow(view *registry.State, s *registry.Session, l *live) {
	if !l.attached || !l.answered {
		return
	}
	if a.now < l.growAt {
		l.again(l.growAt)
		return
	}
	if !a.settled(view, s, l) {
		return
	}
	l.growAt = a.now + GrowEvery
	waits := a.spread(view, s) || a.enlarge(view, s)
	// With a bandwidth it is a matter of how much is free, and that of each moment.
	if l.sated = !waits && s.Bandwidth == 0 && !l.avoidsAny(a.now); !l.sated {
		l.again(l.growAt)
	}
}

// catchUp brings the time of growing, which passes by a session that is sated, to the
// next after a moment, as if it had been looked at in vain each time.
func (l *live) catchUp(after time.Duration) {
	if l.sated && l.growAt <= after {
		l.growAt += ((after-l.growAt)/GrowEvery + 1) * GrowEvery
	}
}

// enlarge adds what a session has too few of, and says whether it only had to wait.
func (a *Arbitrator) enlarge(view *registry.State, s *registry.Session) (waits bool) {
	have := a.carried(view, s, everySlice)
	if have >= sliceLimit(view.Policy) {
		return false
	}
	want, spare := a.target(view, s), spareOf(s)
	switch {
	case want > have && spare != nil:
		base := *spare
		base.Spare = false
		return a.add(view, s, base)
	case want > have && want > mains(s):
		return a.add(view, s, registry.Slice{Number: freeNumber(s), Suite: s.Slices[0].Suite})
	case have == 1 && spare == nil && spareFits(view.Policy, len(s.Slices)):
		return a.add(view, s, registry.Slice{Number: freeNumber(s), Suite: s.Slices[0].Suite, Spare: true})
	}
	return false
}

// add grants the epoch after base on a node that carries no slice of the session. It
// waits where there is such a node and too much was moved just now.
func (a *Arbitrator) add(view *registry.State, s *registry.Session, base registry.Slice) (waits bool) {
	c := a.choose(view, s, base.Number, base.Spare)
	if c == nil || a.slicesByNode(s, int(base.Number))[c.node.ID].main > 0 {
		return false
	}
	if !a.moves.take(a.now) {
		return true
	}
	a.grant(view, s, base, c, false)
	return false
}

// settled says that every slice is up at a living agent and nothing is under
// way. A vacant slice is as it should be, and nobody waits for a spare.
func (a *Arbitrator) settled(view *registry.State, s *registry.Session, l *live) bool {
	for _, sl := range s.Slices {
		known := l.slot(sl.Number)
		switch {
		case known == nil || known.proposal != 0:
			return false
		case a.vacant(view, s, sl) || (sl.Spare && sl.State == registry.SliceVoid):
			continue
		case sl.State != registry.SliceUp || !a.owned(view, sl) || known.condemned:
			return false
		}
	}
	return len(s.Slices) > 0
}

// everySlice is no slice's number.
const everySlice = -1

// target is how many slices the session needs as things are now: those it has,
// whose agents carry what they have free beside what it has of them already,
// and as many more as carry the rest.
func (a *Arbitrator) target(view *registry.State, s *registry.Session) int {
	if s.Bandwidth == 0 {
		return a.ableNodes(view, s)
	}
	have, limit := mains(s), sliceLimit(view.Policy)
	held := a.slicesByNode(s, everySlice)
	share := (s.Bandwidth + uint64(have) - 1) / uint64(max(have, 1))
	var carried uint64
	var mine, others, all []slicing.Capacity
	for _, c := range a.carriers(view, s, held) {
		switch {
		case held[c.node.ID].main > 0:
			free := min(c.free+share*uint64(held[c.node.ID].main), c.host.offered(c.node))
			mine = append(mine, slicing.Capacity{Free: free})
			carried += free
		case c.room():
			all = append(all, c.capacity())
			if !c.last {
				others = append(others, c.capacity())
			}
		}
	}
	if s.EqualShares() {
		n, _ := slicing.NeedEqual(s.Bandwidth, append(mine, all...), limit)
		return max(have, n)
	}
	if carried >= s.Bandwidth {
		return have
	}
	n, enough := slicing.Need(s.Bandwidth-carried, others, limit-have)
	if !enough {
		n, _ = slicing.Need(s.Bandwidth-carried, all, limit-have)
	}
	return have + n
}

// carriers is the candidates and the session's own agents that are out of prekeys.
func (a *Arbitrator) carriers(view *registry.State, s *registry.Session, held map[identity.NodeID]holding) []candidate {
	list := a.candidates(view, s)
	for _, node := range view.Nodes {
		h := a.hosts[node.ID]
		if held[node.ID].main > 0 && h != nil && mayCarry(node) && indexOf(list, node.ID) < 0 {
			list = append(list, candidate{node: node, host: h, free: h.free(a.now, node, s.ID)})
		}
	}
	return list
}

func spareOf(s *registry.Session) *registry.Slice {
	for i := range s.Slices {
		if s.Slices[i].Spare {
			return &s.Slices[i]
		}
	}
	return nil
}

// freeNumber is the lowest number that no slice of the session has.
func freeNumber(s *registry.Session) uint8 {
	number := uint8(0)
	for ; ; number++ {
		if _, taken := sliceOf(s, number); !taken {
			return number
		}
	}
}
