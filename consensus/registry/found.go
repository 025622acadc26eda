package registry

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// The longest prefixes that still leave a pool room for leases beside the
// reserved ones.
const (
	longestPool4 = 27
	longestPool6 = 123
)

func (c *Found) apply(s *State, _ entry) (Result, *Error) {
	if s.Founded() {
		return Result{}, ErrFounded.with("cluster %s", s.Cluster.ID)
	}
	founder, err := c.founder()
	if err != nil {
		return Result{}, err
	}
	policy, err := c.Policy.checked(s.Room())
	if err != nil {
		return Result{}, err
	}
	for _, check := range []func() *Error{c.checkCluster, c.checkParts, c.checkSecrets} {
		if err := check(); err != nil {
			return Result{}, err
		}
	}
	s.Cluster = c.Cluster
	s.Cluster.Pool = slices.Clone(c.Cluster.Pool)
	s.Cluster.Recovery = append([]byte(nil), c.Cluster.Recovery...)
	s.Cluster.Incarnation = max(1, c.Cluster.Incarnation)
	s.Policy = policy
	s.Policy.Version = 1
	s.Voters = 1
	s.putNode(founder)
	s.hold(founder.Index, IndexHold{Node: founder.ID})
	s.Parts = slices.Clone(c.Parts)
	for i := range s.Parts {
		s.Parts[i].Epoch = max(1, s.Parts[i].Epoch)
		s.Parts[i].Egress = founder.ID
	}
	s.Secrets, s.Wraps = make(map[string]Sealed), make(map[string][]byte)
	maps.Copy(s.Secrets, c.Secrets)
	maps.Copy(s.Wraps, c.Wraps)
	s.DataKey = generationOf(c.Secrets)
	s.touchAll()
	return Result{Node: founder.ID}, nil
}

// founder is the first node, at index 1, with the roles it starts with.
func (c *Found) founder() (*Node, *Error) {
	n := c.Founder.joined()
	n.Is = c.Founder.Is & n.May
	n.Index = 1
	if err := n.check(); err != nil {
		return nil, err
	}
	if n.May&RoleVoter == 0 {
		return nil, ErrInvalid.with("the founder must be a voter")
	}
	return n, nil
}

func (c *Found) checkCluster() *Error {
	cl := c.Cluster
	switch {
	case cl.ID == (identity.ClusterID{}):
		return ErrInvalid.with("no cluster id")
	case len(cl.CA) == 0 || len(cl.CA) > MaxBlob:
		return ErrInvalid.with("CA certificate of %d bytes", len(cl.CA))
	case len(cl.Recovery) > MaxBlob:
		return ErrInvalid.with("recovery key of %d bytes", len(cl.Recovery))
	case len(cl.Pool) == 0 || len(cl.Pool) > MaxPools:
		return ErrInvalid.with("%d pool prefixes, want 1 to %d", len(cl.Pool), MaxPools)
	case cl.Egress != EgressRouted && cl.Egress != EgressMasquerade:
		return ErrInvalid.with("egress is routed or masquerade, not %q", cl.Egress)
	}
	for i, p := range cl.Pool {
		if !validPool(p) {
			return ErrInvalid.with("pool %s", p)
		}
		if slices.ContainsFunc(cl.Pool[:i], p.Overlaps) {
			return ErrInvalid.with("pool %s overlaps another", p)
		}
	}
	return nil
}

func validPool(p netip.Prefix) bool {
	if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
		return false
	}
	if p.Addr().Is4() {
		return p.Bits() <= longestPool4
	}
	return p.Bits() <= longestPool6
}

func (c *Found) checkParts() *Error {
	if len(c.Parts) == 0 || len(c.Parts) > MaxParts {
		return ErrInvalid.with("%d pool parts, want 1 to %d", len(c.Parts), MaxParts)
	}
	var seen []netip.Prefix
	for _, p := range c.Parts {
		if err := c.checkPart(p); err != nil {
			return err
		}
		for _, r := range p.Ranges() {
			if slices.ContainsFunc(seen, r.Prefix.Overlaps) {
				return ErrInvalid.with("part %s overlaps another", r.Prefix)
			}
			seen = append(seen, r.Prefix)
		}
	}
	return nil
}

func (c *Found) checkPart(p Part) *Error {
	for _, r := range p.Ranges() {
		if err := c.checkRange(r); err != nil {
			return err
		}
	}
	founder := c.Founder.Key.ID()
	switch {
	case p.Other.Prefix.IsValid() && p.Other.Prefix.Addr().BitLen() == p.Prefix.Addr().BitLen():
		return ErrInvalid.with("part %s and %s are of one family", p.Prefix, p.Other.Prefix)
	case !p.Egress.IsZero() && p.Egress != founder:
		return ErrNotFound.with("egress %s of part %s", p.Egress.Short(), p.Prefix)
	case !p.Second.IsZero():
		return ErrNotFound.with("second %s of part %s", p.Second.Short(), p.Prefix)
	}
	return nil
}

// dual reports whether something of it has both families.
func (c *Found) dual() bool {
	return c.Founder.Other.IsValid() || slices.ContainsFunc(c.Parts, Part.dual)
}

func (c *Found) checkRange(r Range) *Error {
	inPool := func(pool netip.Prefix) bool {
		return pool.Bits() <= r.Prefix.Bits() && pool.Contains(r.Prefix.Addr())
	}
	switch {
	case !r.Prefix.IsValid() || r.Prefix != r.Prefix.Masked():
		return ErrInvalid.with("part %s", r.Prefix)
	case !slices.ContainsFunc(c.Cluster.Pool, inPool):
		return ErrInvalid.with("part %s is outside the pool", r.Prefix)
	case r.Inside.IsValid() && r.Inside.BitLen() != r.Prefix.Addr().BitLen():
		return ErrInvalid.with("inside address %s of part %s is of the other family", r.Inside, r.Prefix)
	}
	return nil
}

func (c *Found) checkSecrets() *Error {
	return (&PutSecrets{Generation: generationOf(c.Secrets), Secrets: c.Secrets, Wraps: c.Wraps}).check()
}

// generationOf is the data key that the first secrets are sealed under.
func generationOf(secrets map[string]Sealed) (generation uint64) {
	for _, sealed := range secrets {
		generation = max(generation, sealed.Generation)
	}
	return generation
}
