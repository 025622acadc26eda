package registry

import (
	"maps"
	"slices"
)

// makeMaps replaces absent maps by empty ones.
func (s *State) makeMaps() {
	ensure(&s.Nodes)
	ensure(&s.Indexes)
	ensure(&s.Tokens)
	ensure(&s.Clients)
	ensure(&s.Leases)
	ensure(&s.Sessions)
	ensure(&s.Requests)
	ensure(&s.Secrets)
	ensure(&s.Wraps)
	ensure(&s.Authorities)
	ensure(&s.Certificates)
}

func ensure[K comparable, V any](m *map[K]V) {
	if *m == nil {
		*m = make(map[K]V)
	}
}

// Clone is a copy that shares nothing that Apply would change.
func (s *State) Clone() *State {
	c := *s
	c.Feed = nil
	c.Nodes = cloneEach(s.Nodes, func(n *Node) {
		n.PastBoots, n.Spent = slices.Clone(n.PastBoots), slices.Clone(n.Spent)
	})
	c.Tokens = cloneEach(s.Tokens, func(t *Token) { t.Burned = maps.Clone(t.Burned) })
	c.Clients = cloneEach(s.Clients, func(*Client) {})
	c.Authorities = cloneEach(s.Authorities, func(*Authority) {})
	c.Certificates = cloneEach(s.Certificates, func(*Certificate) {})
	c.Leases = cloneEach(s.Leases, func(l *Lease) { l.Holding = l.Holding.clone() })
	c.Sessions = cloneEach(s.Sessions, func(ses *Session) {
		ses.Slices, ses.Retiring = slices.Clone(ses.Slices), slices.Clone(ses.Retiring)
		ses.Holding = ses.Holding.clone()
	})
	c.Indexes = maps.Clone(s.Indexes)
	c.Requests = maps.Clone(s.Requests)
	c.Secrets = maps.Clone(s.Secrets)
	c.Wraps = maps.Clone(s.Wraps)
	c.Parts = slices.Clone(s.Parts)
	c.Applied = slices.Clone(s.Applied)
	return &c
}

func cloneEach[K comparable, V any](m map[K]*V, deepen func(*V)) map[K]*V {
	c := make(map[K]*V, len(m))
	for k, v := range m {
		copied := *v
		deepen(&copied)
		c[k] = &copied
	}
	return c
}
