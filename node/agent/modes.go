package agent

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// sessionMode is how this node, as egress, spreads one session's runs.
type sessionMode struct {
	auto   bool
	now    slicing.Mode
	choice slicing.Auto // of mode auto
}

// learnMode takes a session's mode from its route.
func (v *viewState) learnMode(r protocol.RouteRow) {
	m := v.modes[r.Session]
	if m == nil {
		m = &sessionMode{now: slicing.Pin}
		v.modes[r.Session] = m
	}
	mode, err := slicing.ParseMode(string(r.Mode))
	m.auto = r.Mode == registry.ModeAuto || r.Mode == "" || err != nil
	if !m.auto {
		m.now = mode
	}
}

// superviseModes lets mode auto change between one slice per flow and spraying.
func (a *Agent) superviseModes(now time.Duration) {
	for id, r := range a.view.routes {
		m := a.view.modes[id]
		if !m.auto {
			continue
		}
		var loads []float64
		for _, s := range r.Slices {
			if s.Agent == a.config.Index {
				loads = append(loads, a.probes.ownLoad().Share())
			} else if !a.probes.silent(s.Agent) {
				loads = append(loads, a.probes.loadOf(s.Agent))
			}
		}
		if mode := m.choice.Choose(now, loads, a.spread(id).Carried()); mode != m.now {
			m.now = mode
			a.dirty = true
			a.config.Log.Info("slicing", "session", id, "mode", mode)
		}
	}
}
