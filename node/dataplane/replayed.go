package dataplane

import (
	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// refused counts what the window refused.
func (p *Pair) refused(r Reason) Reason {
	if r == DropReplay {
		p.copies.Add(1)
	}
	return r
}

// Replayed lists the SAs at which ReplaysTold packets or more were replayed
// since it was last asked, each with what its window has passed. Somebody who
// can keep such packets out before they are received should: they would be
// dropped here (RFC 4303, 3.4.3, checks the window first for the same reason).
func (t *Table) Replayed() (all []link.Stale) {
	if t == nil {
		return nil
	}
	for spi, p := range t.In {
		if p.copies.Swap(0) >= ReplaysTold && p.In != nil {
			all = append(all, link.Stale{SPI: spi, Below: uint32(p.In.Oldest())})
		}
	}
	return all
}
