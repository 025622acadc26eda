package agent

import (
	"context"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// Holding is a slice of a client for which this agent has living keys.
type Holding struct {
	Session     registry.SessionID
	Number      uint8
	Epoch       uint32
	Incarnation uint64 // of the arbiter that granted it
	Term        uint64
	Leases      []netip.Addr
	Ends        bool // it was revoked, and opens for a while
}

// Holdings asks the control loop for all of them, in order: what the mesh's rules are
// held against.
func (a *Agent) Holdings(ctx context.Context) (all []Holding, ok bool) {
	ok = a.ask(ctx, func() {
		for _, s := range a.slices.inOrder() {
			if !s.from.IsZero() {
				continue
			}
			all = append(all, Holding{
				Session: s.key.session, Number: s.key.number, Epoch: s.key.epoch, Incarnation: s.grant.Incarnation, Term: s.grant.Term,
				Leases: slices.Clone(s.grant.Leases), Ends: s.dropAt != 0,
			})
		}
	})
	return all, ok
}
