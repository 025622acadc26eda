package registry

import (
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Ranges are the part in each family that it has.
func (p *Part) Ranges() []Range {
	ranges := []Range{{p.Prefix, p.Inside, p.Next}}
	if p.Other.Prefix.IsValid() {
		ranges = append(ranges, p.Other)
	}
	return ranges
}

func (p Part) dual() bool { return p.Other != Range{} }

// Contains reports whether an inner address is of the part, in any family.
func (p *Part) Contains(a netip.Addr) bool { return p.Prefix.Contains(a) || p.Other.Prefix.Contains(a) }

// Insides are the moving addresses of the part.
func (p *Part) Insides() (all []netip.Addr) {
	for _, r := range p.Ranges() {
		if r.Inside.IsValid() {
			all = append(all, r.Inside)
		}
	}
	return all
}

// passNext notes that an address nobody had is somebody's now.
func (p *Part) passNext(a netip.Addr) {
	if p.Prefix.Contains(a) {
		p.Next = a.Next()
	} else {
		p.Other.Next = a.Next()
	}
}

func (c *MovePart) apply(s *State, _ entry) (Result, *Error) {
	i := slices.IndexFunc(s.Parts, func(p Part) bool { return p.Prefix == c.Prefix })
	if i < 0 {
		return Result{}, ErrNotFound.with("part %s", c.Prefix)
	}
	if p := s.Parts[i]; p.Epoch != c.Epoch {
		return Result{}, ErrStale.with("part %s is at epoch %d, not %d", p.Prefix, p.Epoch, c.Epoch)
	}
	if err := s.checkEgress(c.Egress); err != nil {
		return Result{}, err
	}
	if !c.Second.IsZero() {
		if c.Second == c.Egress {
			return Result{}, ErrInvalid.with("egress and second are the same node")
		}
		if err := s.checkEgress(c.Second); err != nil {
			return Result{}, err
		}
	}
	s.setEgress(i, c.Egress, c.Second)
	return Result{}, nil
}

func (s *State) checkEgress(id identity.NodeID) *Error {
	n, err := s.member(id)
	if err != nil {
		return err
	}
	if n.Drained {
		return ErrStale.with("node %s is drained", id.Short())
	}
	return nil
}

// setEgress moves the part and every active session leased from it.
func (s *State) setEgress(part int, egress, second identity.NodeID) {
	s.Parts = slices.Clone(s.Parts)
	p := &s.Parts[part]
	p.Egress, p.Second = egress, second
	p.Epoch++
	s.touchMesh()
	for _, r := range p.Ranges() {
		for a, l := range s.Leases.From(r.Prefix.Addr()) {
			if !r.Prefix.Contains(a) {
				break
			}
			if ses := s.Sessions.Get(l.Session); ses != nil && ses.State == SessionActive {
				moved := ses.copy()
				moved.Egress, moved.Second = egress, second
				s.putSession(moved)
			}
		}
	}
}

// withdrawEgress takes a removed node out of every part; its second follows.
func (s *State) withdrawEgress(id identity.NodeID) {
	for i := range s.Parts {
		switch p := s.Parts[i]; id {
		case p.Egress:
			s.setEgress(i, p.Second, identity.NodeID{})
		case p.Second:
			s.setEgress(i, p.Egress, identity.NodeID{})
		}
	}
}
