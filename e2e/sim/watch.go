package sim

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/e2e/sim/check"
	"github.com/meshcrypt/meshcrypt/e2e/sim/raftmodel"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// lookEvery is how often everybody is asked how they are.
const lookEvery = 250 * time.Millisecond

// watch tells the judge what is seen.
type watch struct {
	*World
	judge  *check.Judge
	commit uint64 // of the furthest replica, at the last look
	seen   uint64 // the last entry in the trace
	guest  bool   // the new login after the last fault has worked
}

func newWatch(w *World) *watch {
	names := make(map[identity.NodeID]string)
	for _, n := range w.mesh.members {
		names[n.key.ID()] = n.name
	}
	return &watch{World: w, judge: check.New(check.Config{Names: names, Quorum: true})}
}

// applied is a committed entry at one replica.
func (w *watch) applied(server int, e raftmodel.Applied) {
	n, at := w.mesh.members[server], w.now()
	w.leave("~"+n.name, func() {
		if e.Index <= w.seen { // of another replica
			w.judge.Entry(at, n.key.ID(), e.Index, e.Term, e.Command)
			return
		}
		w.seen = e.Index
		c, err := registry.DecodeCommand(e.Command)
		w.ok(err)
		w.ordered(c)
		w.judge.Entry(at, n.key.ID(), e.Index, e.Term, e.Command)
		w.trace.write(at, n.name, fmt.Sprintf("applies %d.%d %s", e.Term, e.Index, w.trace.command(c)))
		w.obeyed(c)
	})
}

// holds notes who answers for an address; any goroutine may say so.
func (w *watch) holds(d *daemon, address netip.Addr, so bool) {
	at := w.now()
	w.leave("~"+d.name, func() {
		if !d.alive() {
			return
		}
		d.holding[address] = so
		if so && !d.announces[address] {
			d.announce(address, announceFirst)
		}
		w.judge.Holds(at, d.member.key.ID(), address, so)
		w.trace.write(at, d.name, fmt.Sprintf("holds %v: %v", address, so))
	})
}

// fence notes the one that an agent obeys.
func (w *watch) fence(d *daemon, f protocol.Fence) {
	at := w.now()
	w.leave("~"+d.name, func() {
		if d.obeys != f && d.alive() {
			d.obeys = f
			w.judge.Fence(at, d.member.key.ID(), f)
			w.trace.write(at, d.name, fmt.Sprintf("obeys %d.%d", f.Incarnation, f.Term))
		}
	})
}

// serves notes where a term begins that is served, and how far the log is known there.
func (w *watch) serves(d *daemon, r *replica, term uint64) {
	at, first, applied := w.now(), r.Reign(), r.Stats().Applied
	w.leave("~"+d.name, func() { w.judge.Serves(at, d.member.key.ID(), term, first, applied) })
}

func (w *watch) gone(n *member) { w.judge.Gone(w.now(), n.key.ID()) }

func (w *watch) stopped(n *member, so bool) { w.judge.Stopped(w.now(), n.key.ID(), so) }

// ended is a client that gave up.
func (w *watch) ended(v *visitor, err error) {
	at := w.now()
	w.leave("~"+v.name, func() {
		w.trace.write(at, v.name, fmt.Sprintf("ends: %v", err))
		if s := w.sessionOf(v); err != nil && s != nil {
			w.judge.ClientEnded(at, v.name, s.ID, err.Error())
		}
	})
}

// sessionOf is the session that a client says it has; nil: none that lives. One that a
// killed process of it had may live on beside it.
func (w *watch) sessionOf(v *visitor) *registry.Session {
	for id, s := range w.judge.Registry().Sessions.Active() {
		if id.String() == v.session {
			return s
		}
	}
	return nil
}

// look asks everybody, over and over.
func (w *watch) look() {
	if w.now() < w.length-lookEvery {
		w.after(lookEvery, w.look)
	}
	w.judge.Tick(w.now())
	a := &answers{reports: make(map[*daemon]agent.Report), holdings: make(map[*daemon][]agent.Holding), statuses: make(map[*visitor]control.ClientStatus)}
	ctx, cancel := context.WithCancel(context.Background())
	for _, n := range w.mesh.members {
		if d := n.daemon; d.runs() {
			go d.ask(ctx, a)
		}
	}
	for _, v := range w.mesh.visitors {
		if v.process != nil && v.process.runs() {
			go v.ask(ctx, a)
			if s := w.sessionOf(v); s != nil {
				w.judge.Heard(w.now(), s.ID)
			}
		}
	}
	w.after(apart, func() {
		cancel()
		w.hold(a)
	})
}

// answers is what was said in one look. They are the driver's.
type answers struct {
	reports  map[*daemon]agent.Report
	holdings map[*daemon][]agent.Holding
	statuses map[*visitor]control.ClientStatus
}

func (d *daemon) ask(ctx context.Context, a *answers) {
	holdings, heard := d.agent.Holdings(ctx)
	report, ok := d.agent.Report(ctx)
	if heard && ok {
		d.world.leave("?"+d.name, func() { a.holdings[d], a.reports[d] = holdings, report })
	}
}

func (v *visitor) ask(ctx context.Context, a *answers) {
	if status, err := v.client.Status(ctx); err == nil {
		v.world.leave("?"+v.name, func() { a.statuses[v], v.session = status, status.Session })
	}
}

// hold holds what was said against the rules.
func (w *watch) hold(a *answers) {
	var tables []check.Table
	for _, n := range w.mesh.members {
		d := n.daemon
		if _, ok := a.holdings[d]; ok {
			tables = append(tables, d.table(a.holdings[d]))
		}
		if r, ok := a.reports[d]; ok && r.Heard {
			w.fence(d, protocol.Fence{Incarnation: r.Incarnation, Term: r.Term})
		}
	}
	w.judge.Tables(w.now(), tables)
	w.lookAtVisitors(a)
	w.meanwhile(a)
	w.stands(check.Led, w.led())
	w.stands(check.Streams, w.streams(a))
	w.stands(check.Egresses, w.egresses())
	w.stands(check.Slices, w.slices())
	w.stands(check.Clients, w.controls(a))
	w.stands(check.Histories, w.histories())
	why := "not yet"
	if w.guest {
		why = ""
	}
	w.stands(check.Logins, why)
	if w.parkAfter == parkAfter {
		w.stands(check.Rest, w.rest())
	}
}

// lookAtVisitors notes who is parked, and tells the judge whose each client says that it is.
func (w *watch) lookAtVisitors(a *answers) {
	for _, v := range w.mesh.visitors {
		status, ok := a.statuses[v]
		if !ok {
			continue
		}
		if v.parked != status.Parked {
			v.parked, v.came = status.Parked, w.now()
			w.trace.write(w.now(), v.name, fmt.Sprintf("is parked: %v", v.parked))
		}
		v.rested = v.rested || v.parked && w.judge.IsHealed()
		w.waysTo(v, status)
		w.judge.Has(w.now(), v.name, status.Session)
	}
}

// waysTo tells the judge how agents reach a client.
func (w *watch) waysTo(v *visitor, status control.ClientStatus) {
	s := w.sessionOf(v)
	if s == nil {
		return
	}
	var through identity.NodeID
	for _, g := range status.Gateways {
		if n := w.net.hostOf(g.Address.Addr()); g.InUse && status.Parked {
			through = w.mesh.members[n.number-1].key.ID()
		}
	}
	for _, sl := range status.Slices {
		if sl.Heard >= 0 {
			w.judge.Way(s.ID, sl.Number, sl.Epoch, through, w.now()-sl.Heard)
		}
	}
	if status.Parked {
		w.judge.Rests(w.now(), s)
	}
}

// stands tells the judge of a goal, and why it is not reached; empty: it is.
func (w *watch) stands(g check.Goal, why string) { w.judge.Stands(w.now(), g, why == "", why) }

// table is an agent's, as the judge reads it.
func (d *daemon) table(all []agent.Holding) check.Table {
	t := check.Table{Agent: d.member.key.ID(), Boot: d.boot}
	for _, h := range all {
		t.Holdings = append(t.Holdings, check.Holding{
			Session: h.Session, Number: h.Number, Epoch: h.Epoch, Leases: h.Leases, Ends: h.Ends,
			Fence: protocol.Fence{Incarnation: h.Incarnation, Term: h.Term},
		})
	}
	return t
}
