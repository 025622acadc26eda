package registry

import (
	"cmp"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry/sorted"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// spent are the SPIs that were granted in one boot of an agent.
type spent struct {
	order sorted.Map[uint32, uint64] // by SPI; later ones have higher numbers
	next  uint64
	kept  int // how many were left when they were last trimmed
}

func newSpent() spent { return spent{order: sorted.New[uint32, uint64](cmp.Compare[uint32])} }

func (sp spent) has(spi uint32) bool { return sp.order.Has(spi) }

func (sp *spent) add(spi uint32) {
	sp.order.Put(spi, sp.next)
	sp.next++
}

// list are the SPIs, the newest last; nil: none.
func (sp spent) list() []uint32 { return new(spentRoom).list(sp) }

// spentRoom is memory for the lists of one agent after another.
type spentRoom struct {
	numbered []numberedSPI
	spis     []uint32
}

type numberedSPI struct {
	number uint64
	spi    uint32
}

// list is that of one boot, until the next is asked for.
func (r *spentRoom) list(sp spent) []uint32 {
	if sp.order.Len() == 0 {
		return nil
	}
	r.numbered, r.spis = slices.Grow(r.numbered[:0], sp.order.Len()), slices.Grow(r.spis[:0], sp.order.Len())
	for spi, number := range sp.order.All() {
		r.numbered = append(r.numbered, numberedSPI{number, spi})
	}
	slices.SortFunc(r.numbered, func(a, b numberedSPI) int { return cmp.Compare(a.number, b.number) })
	for _, n := range r.numbered {
		r.spis = append(r.spis, n.spi)
	}
	return r.spis
}

// spend remembers the slice's SPI as granted. A boot not seen before supersedes
// the agent's present one.
func (s *State) spend(sl Slice) {
	s.enterBoot(sl.Agent, sl.Boot)
	sp, ok := s.spent.Find(sl.Agent)
	if !ok {
		sp = newSpent()
	}
	sp.add(sl.SPI)
	if sp.order.Len() >= sp.kept+2*MaxSpent {
		sp = s.trimmed(sl.Agent, sp)
	}
	s.spent.Put(sl.Agent, sp)
}

// trimmed keeps the SPIs that living slices use and the newest MaxSpent, which
// is as many prekeys as an agent may have on offer: whatever an arbiter could
// still grant is known.
func (s *State) trimmed(agent identity.NodeID, sp spent) spent {
	living := make(map[uint32]bool)
	for ses := range s.carriedBy(agent) {
		for _, sl := range slices.Concat(ses.Slices, ses.Retiring) {
			if sl.Agent == agent && sl.State != SliceVoid {
				living[sl.SPI] = true
			}
		}
	}
	all, trimmed := sp.list(), newSpent()
	old := len(all) - MaxSpent
	for i, spi := range all {
		if i >= old || living[spi] {
			trimmed.add(spi)
		}
	}
	trimmed.kept = trimmed.order.Len()
	return trimmed
}
