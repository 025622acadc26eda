package sim

import (
	"fmt"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/e2e/sim/check"
	"github.com/meshcrypt/meshcrypt/e2e/sim/plan"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// Why the mesh is not yet what it is to be again; empty: it is.

// led: one node serves as arbiter, which its log leads.
func (w *watch) led() string {
	if w.leader() == nil {
		return "nobody serves"
	}
	return ""
}

// leader is who serves in the highest term.
func (w *watch) leader() (leads *daemon) {
	var highest uint64
	for _, n := range w.mesh.members {
		d := n.daemon
		if term := d.serving.Load(); d.runs() && term > highest {
			leads, highest = d, term
		}
	}
	return leads
}

// streams: every agent hears that one.
func (w *watch) streams(a *answers) string {
	leader := w.leader()
	for _, n := range w.mesh.members {
		r, ok := a.reports[n.daemon]
		switch {
		case !ok:
			return n.name + " does not answer"
		case !r.Heard || leader == nil || r.Arbiter != leader.member.key.ID():
			return n.name + " does not hear the arbiter"
		}
	}
	return ""
}

// egresses: the one whom the registry names answers for each address, and one more may.
func (w *watch) egresses() string {
	for _, p := range w.judge.Registry().Parts {
		if p.Egress.IsZero() || p.Second.IsZero() {
			return fmt.Sprintf("%v lacks an egress or a second", p.Inside)
		}
		for _, n := range w.mesh.members {
			if holds := n.daemon.alive() && n.daemon.holding[p.Inside]; holds != (n.key.ID() == p.Egress) {
				return fmt.Sprintf("%s holds %v: %v", n.name, p.Inside, holds)
			}
		}
	}
	return ""
}

// slices: every client that runs has what it is to have.
func (w *watch) slices() string {
	for _, v := range w.staying() {
		s := w.sessionOf(v)
		if s == nil {
			return v.name + " has no session"
		}
		if lacks := w.judge.Lacking(w.now(), s); lacks != "" {
			return lacks
		}
	}
	return ""
}

// controls: every client has a connection to an arbiter or is parked, and has all slices that
// are up by the registry. Who was parked and comes is neither for some round trips: a parked
// client may find out a minute after a fault that an agent is gone, and comes then.
func (w *watch) controls(a *answers) string {
	for _, v := range w.staying() {
		s, ok := a.statuses[v]
		switch {
		case !ok:
			return v.name + " does not answer"
		case !v.parked && w.now() < v.came+check.CalledWithin:
			continue
		case !s.Control && !s.Parked:
			return v.name + " has no control connection"
		case s.Health != "ok":
			return fmt.Sprintf("%s is not well: %v", v.name, s.Problems)
		}
		if lacks := w.lacks(v, s); lacks != "" {
			return lacks
		}
	}
	return ""
}

// lacks is which slice is up by the registry, and not at its client.
func (w *watch) lacks(v *visitor, s control.ClientStatus) string {
	session := w.sessionOf(v)
	if session == nil {
		return v.name + " has no session"
	}
	for _, sl := range session.Slices {
		has := func(own control.ClientSlice) bool {
			return own.Number == sl.Number && own.Epoch == sl.Epoch && own.State == "up"
		}
		if sl.State == registry.SliceUp && !slices.ContainsFunc(s.Slices, has) {
			return fmt.Sprintf("%s has no slice %d.%d", v.name, sl.Number, sl.Epoch)
		}
	}
	return ""
}

// rest: every client has been parked since all is over.
func (w *watch) rest() string {
	for _, v := range w.staying() {
		if !v.rested {
			return v.name + " never parked"
		}
	}
	return ""
}

// histories: what was committed at the last look is applied everywhere.
func (w *watch) histories() (why string) {
	was := w.commit
	for _, n := range w.mesh.members {
		r := n.daemon.replica.Load()
		if r == nil {
			continue
		}
		stats := r.Stats()
		if stats.Applied < was {
			why = fmt.Sprintf("%s has applied %d of %d", n.name, stats.Applied, was)
		}
		w.commit = max(w.commit, stats.Commit)
	}
	return why
}

// meanwhile: where one node alone has been out for a while, or its clock wrong, the others
// have an arbiter, and not that one; and all egress addresses, where it is out.
func (w *watch) meanwhile(a *answers) {
	if len(w.wrong) != 1 || w.wrong[0].Who.Client {
		return
	}
	f, lasts := w.wrong[0], w.now()-w.changed
	switch f.Kind {
	case plan.PowerOff, plan.Kill, plan.Stop, plan.Isolate, plan.Mute, plan.Deafen:
		if lasts >= check.WhileOne {
			w.judge.Meanwhile(w.now(), check.WhileOne, fmt.Sprint(f.Who, " ", f.Kind), w.without(f.Who.Number, a))
		}
	case plan.Clock:
		if lasts >= check.ClockWithin && f.Step >= check.WrongClock && w.leader() == w.mesh.members[f.Who.Number].daemon {
			w.judge.Meanwhile(w.now(), check.ClockWithin, fmt.Sprint(f.Who, " ", f.Kind), "it leads")
		}
	}
}

// without is why the nodes but one have no arbiter of their own, or not all addresses.
func (w *watch) without(one int, a *answers) string {
	for i, n := range w.mesh.members {
		r, ok := a.reports[n.daemon]
		switch {
		case i == one:
		case !ok:
			return n.name + " does not answer"
		case !r.Heard:
			return n.name + " hears no arbiter"
		case r.Arbiter == w.mesh.members[one].key.ID():
			return n.name + " hears that one"
		}
	}
	for _, p := range parts {
		has := func(n *member) bool { return n.number != one+1 && n.daemon.alive() && n.daemon.holding[p.Inside] }
		if !slices.ContainsFunc(w.mesh.members, has) {
			return fmt.Sprintf("none of them has %v", p.Inside)
		}
	}
	return ""
}
