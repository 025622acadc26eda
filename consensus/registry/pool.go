package registry

import (
	"encoding/binary"
	"net/netip"
)

// RangeUse is how much of a range of the pool is given away.
type RangeUse struct {
	Prefix netip.Prefix
	Size   int  // addresses that clients may get, at most MaxLeases
	Open   int  // in sessions
	Held   int  // of sessions that are over, while an SA could still carry them (I13)
	Until  Tick // when time alone frees the first one held; 0: none is
}

// Free is how many a client without a lease of its own could get.
func (u RangeUse) Free() int { return max(0, u.Size-u.Open-u.Held) }

// PoolUse is the use of every range of every part, in their order.
func (s *State) PoolUse() (all []RangeUse) {
	for i := range s.Parts {
		for _, p := range s.Parts[i].Ranges() {
			all = append(all, s.rangeUse(p))
		}
	}
	return all
}

func (s *State) rangeUse(p Range) RangeUse {
	r := s.leasable(p)
	u := RangeUse{Prefix: p.Prefix, Size: r.size()}
	if u.Size == 0 {
		return u
	}
	u.Open = s.known(r)
	for a := range s.index.idle.From(r.low) {
		if r.high.Less(a) {
			break
		}
		u.Open--
		if l := s.Leases.Get(a); !s.free(l) {
			u.Held++
			if u.Until == 0 || l.Free < u.Until {
				u.Until = l.Free
			}
		}
	}
	return u
}

// size counts the span's addresses up to MaxLeases.
func (r span) size() int {
	if r.high.Less(r.low) {
		return 0
	}
	low, high := r.low.As16(), r.high.As16()
	n := binary.BigEndian.Uint64(high[8:]) - binary.BigEndian.Uint64(low[8:])
	if [8]byte(low[:8]) != [8]byte(high[:8]) || n >= MaxLeases {
		return MaxLeases
	}
	if r.skip.IsValid() && r.skip.BitLen() == r.low.BitLen() && !r.skip.Less(r.low) && !r.high.Less(r.skip) {
		n--
	}
	return int(n) + 1
}
