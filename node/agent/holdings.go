package agent

import (
	"bytes"
	"cmp"
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
		for key, s := range a.slices.byKey {
			if !s.from.IsZero() {
				continue
			}
			all = append(all, Holding{
				Session: key.session, Number: key.number, Epoch: key.epoch, Incarnation: s.grant.Incarnation, Term: s.grant.Term,
				Leases: slices.Clone(s.grant.Leases), Ends: s.dropAt != 0,
			})
		}
	})
	slices.SortFunc(all, func(x, y Holding) int {
		return cmp.Or(bytes.Compare(x.Session[:], y.Session[:]), cmp.Compare(x.Number, y.Number), cmp.Compare(x.Epoch, y.Epoch))
	})
	return all, ok
}
