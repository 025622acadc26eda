package agent

import (
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// A client that finds one of its slices silent says so over a living one
// (design 8). The agent that hears it passes the verdict to the session's
// egress over the inside network, once; the egress stops using the slice until
// its epoch is replaced. Whoever says the verdict is alive itself.

// clientVerdict is what a client said inside the slice of key.
type clientVerdict struct {
	key  sliceKey
	body []byte
}

// apply obeys a client's verdict where this node is egress, and passes it on
// to the other nodes at which replies may arrive.
func (e clientVerdict) apply(a *Agent) {
	number, epoch, ok := probe.ParseVerdict(e.body)
	s, about := a.slices.byKey[e.key], sliceKey{e.key.session, number, epoch}
	switch {
	case !ok || s == nil || about == e.key:
		a.rejects.count("verdict-refused")
	case !s.told.spend(a.config.Now()):
		a.rejects.count("verdict-often")
	default:
		a.condemn(e.key, about)
		a.passVerdict(s, about)
	}
}

// passVerdict sends it to the session's egress and to its second, which may
// have taken over already.
func (a *Agent) passVerdict(s *slice, about sliceKey) {
	b := probe.SliceVerdict{
		Over: s.grant.SPI, Session: about.session, Number: about.number, Epoch: about.epoch,
	}.Marshal(a.view.key)
	for _, n := range a.view.egressesOf(s.grant.Leases) {
		if n.Index == a.config.Index || !n.Inside.IsValid() {
			continue
		}
		to := link.Path{Remote: netip.AddrPortFrom(n.Inside, a.config.InsidePort)}
		_ = a.config.Inside.Send(b, len(b), to) // the egress has probes of its own
	}
}

// egressesOf are the nodes at which replies to a session arrive, or will when
// the first of them dies.
func (v *viewState) egressesOf(leases []netip.Addr) (nodes []protocol.NodeRow) {
	for _, p := range v.parts {
		if !slices.ContainsFunc(leases, p.row.Contains) {
			continue
		}
		for _, n := range []protocol.NodeRow{v.nodeByID(p.row.Egress), v.nodeByID(p.row.Second)} {
			if n.Index != 0 && !slices.Contains(nodes, n) {
				nodes = append(nodes, n)
			}
		}
	}
	return nodes
}

// passedVerdict is a client's verdict from the agent that heard it.
type passedVerdict struct {
	from netip.Addr
	probe.SliceVerdict
}

// apply obeys it if the sender is the agent of the slice by which it says to
// have heard it, and this node has that session's route. It is never sent on.
func (e passedVerdict) apply(a *Agent) {
	v := e.SliceVerdict
	sender := a.view.nodes[esp.Index(v.Over)]
	over, held := a.view.routedBy(v.Session, v.Over)
	about := sliceKey{v.Session, v.Number, v.Epoch}
	if sender.Index == 0 || sender.Inside != e.from || !held || over == about {
		a.rejects.count("verdict-foreign")
		return
	}
	a.condemn(over, about)
}

// routedBy finds the slice of a session's route by its granted SPI.
func (v *viewState) routedBy(id registry.SessionID, spi uint32) (sliceKey, bool) {
	row, _ := v.route(id)
	for _, s := range row.Slices {
		if s.SPI == spi {
			return sliceKey{id, s.Number, s.Epoch}, true
		}
	}
	return sliceKey{}, false
}

// routed reports whether a session's route has this epoch of a slice.
func (v *viewState) routed(key sliceKey) bool {
	row, _ := v.route(key.session)
	return slices.ContainsFunc(row.Slices, func(s protocol.RouteSlice) bool {
		return s.Number == key.number && s.Epoch == key.epoch
	})
}

// condemn stops using one epoch of a slice on the way down, by its client's
// word over another, which lives.
func (a *Agent) condemn(over, about sliceKey) {
	v := a.view
	if v.silent[over] {
		delete(v.silent, over)
		a.changes.session(over.session)
	}
	if v.routed(about) && !v.silent[about] {
		v.silent[about] = true
		a.changes.session(about.session)
	}
}

// forgetVerdicts drops verdicts about epochs of a former route that its session has
// no more.
func (v *viewState) forgetVerdicts(former protocol.RouteRow) {
	for _, s := range former.Slices {
		if key := (sliceKey{former.Session, s.Number, s.Epoch}); v.silent[key] && !v.routed(key) {
			delete(v.silent, key)
		}
	}
}

// allowance counts what one client may say in a window of time.
type allowance struct {
	since time.Duration
	spent int
}

func (w *allowance) spend(now time.Duration) bool {
	if now-w.since >= VerdictWindow {
		w.since, w.spent = now, 0
	}
	w.spent++
	return w.spent <= MaxVerdicts
}
