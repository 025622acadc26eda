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
func (sp spent) list() (all []uint32) {
	for spi := range sp.order.All() {
		all = append(all, spi)
	}
	slices.SortFunc(all, func(a, b uint32) int { return cmp.Compare(sp.order.Get(a), sp.order.Get(b)) })
	return all
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
