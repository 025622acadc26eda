package arbiter

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/ask"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// ErrOver means that this node is not the arbiter any more.
var ErrOver = errors.New("arbiter: the term is over")

// Report is what only the arbiter's streams know, beside the registry.
type Report struct {
	Usage     map[protocol.SliceRef]protocol.SliceUsage // by slice epoch
	Moved     map[registry.SessionID]uint64             // bytes, both ways; no entry: none
	Connected map[registry.SessionID]bool               // control connection is open
	Parked    map[registry.SessionID]bool               // it is not, by agreement
	Load      map[identity.NodeID]float64               // of nodes whose stream is open, 0..1
	Silent    map[identity.NodeID]bool                  // some other node does not hear it
	Flow      map[registry.SessionID]protocol.Flow      // as clients measured it
	Paths     map[protocol.SliceRef]protocol.Path       // the same, by slice epoch
	Unfit     map[identity.NodeID]string                // connected nodes that could not take over, or keep the log, and why
	// Missed is what a node was told of and the log lacks, in words; empty: nothing.
	Missed string
	// Copied are nodes whose key another host has too, and the address that it gave.
	Copied map[identity.NodeID]netip.AddrPort

	Violations map[identity.NodeID][]Violation // flagged in this term
	At         time.Duration                   // when this was said, on the clock of violations
}

// Report asks the control loop.
func (a *Arbiter) Report(ctx context.Context) (r Report, err error) {
	r = Report{
		Usage:     make(map[protocol.SliceRef]protocol.SliceUsage),
		Connected: make(map[registry.SessionID]bool),
		Parked:    make(map[registry.SessionID]bool),
		Load:      make(map[identity.NodeID]float64),
		Silent:    make(map[identity.NodeID]bool),
		Flow:      make(map[registry.SessionID]protocol.Flow),
		Paths:     make(map[protocol.SliceRef]protocol.Path),
		Unfit:     make(map[identity.NodeID]string),

		Violations: make(map[identity.NodeID][]Violation),
	}
	return r, a.ask(ctx, func() {
		for id, n := range a.nodes {
			r.Load[id] = n.load
			for key, u := range n.usage {
				ref := protocol.SliceRef{Session: key.session, Number: key.number, Epoch: key.epoch}
				r.Usage[ref] = protocol.SliceUsage{Slice: ref, In: u.in, Out: u.out, Refused: u.refused, Quiet: u.quiet}
			}
			for other, silent := range n.silent {
				r.Silent[other] = r.Silent[other] || silent
			}
		}
		for id, m := range a.measures {
			r.Flow[id] = m.flow
			for _, p := range m.paths {
				r.Paths[protocol.SliceRef{Session: id, Number: p.Number, Epoch: p.Epoch}] = p
			}
		}
		r.Moved = a.reportMoved()
		r.At, r.Missed = a.config.Now(), a.missed
		r.Copied = a.copied(r.At)
		for id, one := range a.replicas {
			if one.shown() {
				r.Unfit[id] = one.unfit
			}
		}
		a.reportOlder(r.Unfit)
		for id, all := range a.violations {
			r.Violations[id] = slices.Clone(all)
		}
		for _, c := range a.clients {
			r.Connected[c.session] = true
		}
		for id := range a.parking.sessions {
			r.Parked[id] = true
		}
	})
}

// End ends a session for a reason, at an operator's word.
func (a *Arbiter) End(ctx context.Context, id registry.SessionID, reason string) error {
	return a.ask(ctx, func() { a.step(session.End{Session: id, Reason: reason}) })
}

// Drain withdraws a node's data roles, or gives them back.
func (a *Arbiter) Drain(ctx context.Context, node identity.NodeID, on bool) error {
	return a.ask(ctx, func() { a.step(session.Drain{Node: node, On: on}) })
}

// ask runs f in the control loop and waits for it. f has run if there is no
// error, and never does otherwise.
func (a *Arbiter) ask(ctx context.Context, f func()) error {
	q := ask.New(f)
	a.must(ctx, asked{q})
	switch {
	case q.Wait(ctx, a.over):
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return ErrOver
}

// asked is a question in the control loop.
type asked struct{ *ask.Question }

func (q asked) apply(*Arbiter) { q.Answer() }
