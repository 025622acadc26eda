package agent

import (
	"context"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// Report is what an operator sees of the agent.
type Report struct {
	Term, Incarnation uint64
	Heard             bool          // an arbiter's stream is open
	WordAge           time.Duration // since the last word of an arbiter
	Arbiter           identity.NodeID
	Slices, Routes    int
	Parts             []string // pool parts this host answers for
	Silent            []string // nodes that do not answer its probes
	Path              probe.Verdict
	Sealed            bool // what nodes hand on to each other is sealed
}

// Report asks the control loop.
func (a *Agent) Report(ctx context.Context) (r Report, ok bool) {
	ok = a.ask(ctx, func() {
		r = Report{
			Term: a.floor.Term, Incarnation: a.floor.Incarnation,
			Heard: a.stream != nil && a.stream.fenced, WordAge: a.config.Now() - a.wordAt,
			Arbiter: a.view.arbiter, Slices: len(a.slices.byKey), Routes: len(a.view.routes),
			Path: a.probes.pathVerdict(), Sealed: a.sealed(),
		}
		for _, p := range a.view.parts {
			if p.held || p.row.Egress == a.config.Key.ID() {
				r.Parts = append(r.Parts, p.row.Prefix.String())
			}
		}
		for index, p := range a.probes.peers {
			if p.silent {
				r.Silent = append(r.Silent, a.view.nodes[index].Name)
			}
		}
	})
	return r, ok
}
