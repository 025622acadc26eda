package agent

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// changes is what happened since the tables were published, by the rows that it is
// about: a publication makes those anew and no others, or one event would cost as
// much as there are sessions. It is owned by the control loop.
type changes struct {
	slices   map[*slice]bool // keyed, rekeyed, up or gone
	sessions map[registry.SessionID]bool
	leases   map[netip.Addr]bool
	// routes of these sessions stand on what the outlook has other now, and wait for their turn.
	routes map[registry.SessionID]bool
	// mesh is what rows of many sessions are made of: nodes, parts, what is known of
	// them, sealing, and this host's own path. Which rows, outlook says.
	mesh bool
	// nodes: who is a member, or where, or what the pool is.
	nodes bool
	// rules: all of them must be compiled anew.
	rules bool
}

func (c *changes) any() bool {
	return c.mesh || c.nodes || c.rules || len(c.slices)+len(c.sessions)+len(c.leases)+len(c.routes) > 0
}

// slice notes that a slice changed, and with it what its session's packets go by.
func (c *changes) slice(s *slice) {
	mark(&c.slices, s)
	if !s.from.IsZero() {
		c.mesh = true // it may be the link that other sessions are handed on by
		return
	}
	c.session(s.key.session)
}

func (c *changes) session(id registry.SessionID) { mark(&c.sessions, id) }

func (c *changes) lease(a netip.Addr) { mark(&c.leases, a) }

func mark[K comparable](set *map[K]bool, k K) {
	if *set == nil {
		*set = make(map[K]bool)
	}
	(*set)[k] = true
}
