package agent

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Report is what an operator sees of the agent.
type Report struct {
	Term, Incarnation uint64
	Heard             bool          // an arbiter's stream is open
	WordAge           time.Duration // since the last word of an arbiter
	Arbiter           identity.NodeID
	Slices, Routes    int      // of clients: keys for other nodes are no work that could be moved
	Parts             []string // pool parts this host answers for
	Silent            []string // nodes that do not answer its probes
	Path              probe.Verdict
	Bare              bool // strangers reach the inside interface, and the mesh does not seal what its nodes hand on
	Is                protocol.Soundness
	Faults            []string          // that made this node broken
	Stays             bool              // it holds a part all the same, for nobody else can
	Unheard           []Unheard         // nodes that the arbiter hears and this one does not
	Broken            map[string]string // other nodes that do not forward, and why, as they say
	Unjudged          bool              // the arbiter does not say what clients may reach
	Rivals            []netip.Addr      // inside addresses of this host that another answers for too
	CutOff            bool              // neither an arbiter nor any other node is heard
	Woke              bool              // this process stood still until a moment ago, for long or again and again
}

// Report asks the control loop.
func (a *Agent) Report(ctx context.Context) (r Report, ok bool) {
	ok = a.ask(ctx, func() {
		r = Report{
			Term: a.floor.Term, Incarnation: a.floor.Incarnation,
			Heard: a.stream != nil && a.stream.fenced, WordAge: a.config.Now() - a.wordAt,
			Arbiter: a.view.arbiter, Slices: a.slices.ofClients(), Routes: len(a.view.routes),
			Path: a.probes.pathVerdict(), Bare: a.inside.exposed && !a.meshSeals(), Unjudged: a.rules.unsaid, CutOff: a.footing.is == lost, Woke: a.sound.sleeps(a.config.Now()), Rivals: a.rivals(a.config.Now()), Is: a.sound.is, Unheard: a.unheard(a.config.Now()), Broken: make(map[string]string),
		}
		if r.Is == protocol.Broken {
			r.Faults = slices.Clone(a.sound.faults)
		}
		for _, n := range a.view.nodes {
			if n.Fault != "" && n.Index != a.config.Index {
				r.Broken[n.Name] = n.Fault
			}
		}
		for _, p := range a.view.partsInOrder() {
			if p.held || p.row.Egress == a.config.Key.ID() {
				r.Parts = append(r.Parts, p.row.Prefix.String())
				r.Stays = r.Stays || r.Is == protocol.Broken && p.held
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
