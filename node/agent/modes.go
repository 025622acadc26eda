package agent

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// Steps of mode auto at an egress, calmest first.
const (
	stepOwn   = iota // seal everything here
	stepFlows        // a slice for each flow, this node's or another's
	stepSpray        // one flow over all slices
)

// sessionMode is how this node, as egress, spreads one session's runs.
type sessionMode struct {
	auto  bool
	fixed slicing.Mode  // unless auto
	step  int           // of auto
	steps *slicing.Auto // nil while there never was anything to choose
	skew  time.Duration // what the client's paths differ by
}

// mode is for the picker: as calm as the client's paths need it.
func (m *sessionMode) mode() slicing.Mode { return slicing.Calm(m.wanted(), m.skew) }

func (m *sessionMode) wanted() slicing.Mode {
	switch {
	case !m.auto:
		return m.fixed
	case m.step == stepSpray:
		return slicing.Burst
	default:
		return slicing.Pin
	}
}

// own says that runs stay with this node's own slices: handing on costs
// another hop and wins nothing while there is room.
func (m *sessionMode) own() bool { return m.auto && m.step == stepOwn }

// learnMode takes a session's mode from its route.
func (v *viewState) learnMode(r protocol.RouteRow) {
	m := v.modes[r.Session]
	if m == nil {
		m = new(sessionMode)
		v.modes[r.Session] = m
	}
	mode, err := slicing.ParseMode(string(r.Mode))
	m.auto = r.Mode == registry.ModeAuto || r.Mode == "" || err != nil
	m.skew = r.SkewTime()
	if !m.auto {
		m.fixed = downward(mode)
	}
}

// downward is a mode on the way down. Packet, the patent's letter, is about
// what the client sends; here each agent gets 1/N of the bytes by whole runs,
// for single packets would cost a hand-on each.
func downward(mode slicing.Mode) slicing.Mode {
	if mode == slicing.Packet {
		return slicing.Burst
	}
	return mode
}

// superviseModes lets sessions of mode auto spread further, or less. Those at rest have
// no reason to while no agent at all is fuller than another.
func (a *Agent) superviseModes(now time.Duration) {
	if slicing.Uneven(a.allLoads()) {
		for id := range a.view.routes {
			a.superviseMode(id, now)
		}
		return
	}
	if len(a.view.restless) == 0 {
		return
	}
	for id := range a.view.restless {
		a.superviseMode(id, now)
	}
	if len(a.view.restless) == 0 { // a map keeps the room that a crowd needed
		a.view.restless = make(map[registry.SessionID]bool)
	}
}

// allLoads is the loads of all agents that sessions could spread over.
func (a *Agent) allLoads() []float64 {
	loads := []float64{a.probes.ownLoad().Share()}
	for index := range a.view.fed {
		if index != a.config.Index && !a.probes.silent(index) {
			loads = append(loads, a.probes.loadOf(index))
		}
	}
	return loads
}

func (a *Agent) superviseMode(id registry.SessionID, now time.Duration) {
	m := a.view.modes[id]
	if !m.auto {
		delete(a.view.restless, id)
		return
	}
	a.looks++
	loads := a.loadsOf(*a.view.routes[id])
	if m.steps == nil {
		if !slicing.Uneven(loads) {
			return // as with most, which have one slice and a spare
		}
		m.steps = new(slicing.NewAuto(stepSpray))
	}
	step := m.steps.Choose(now, loads, a.spread(id).Carried())
	if m.steps.Rests() {
		delete(a.view.restless, id)
	} else {
		a.view.restless[id] = true
	}
	if m.steps.Begins() {
		m.steps = nil
	}
	if step != m.step {
		m.step = step
		a.changes.session(id)
		a.config.Log.Info("slicing", "session", id, "mode", m.mode(), "own_slices_only", m.own())
	}
}

// loadsOf is the loads of the agents that a session can spread over.
func (a *Agent) loadsOf(r protocol.RouteRow) (loads []float64) {
	for _, s := range r.Slices {
		switch {
		case s.Weight == 0: // a spare is none to spread over
		case s.Agent == a.config.Index:
			loads = append(loads, a.probes.ownLoad().Share())
		case !a.probes.silent(s.Agent):
			loads = append(loads, a.probes.loadOf(s.Agent))
		}
	}
	return loads
}
