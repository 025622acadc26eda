package arbiter

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// advance is the passing of time on its way to the registry: a command at a time, and
// the same one until its outcome is known, so that no second is lost or counted twice.
type advance struct {
	command *registry.Command // without outcome; nil: none
	flying  bool              // it was submitted, and nothing was heard
}

// advanceTime commits the time that passed since it last did, at most MaxElapsed at once:
// a host that slept through a weekend catches up in steps.
func (a *Arbiter) advanceTime(now time.Duration) {
	passed := uint64((now - a.tickedAt).Seconds())
	if a.advance.command == nil && passed >= AdvanceSeconds {
		elapsed := min(passed, registry.MaxElapsed)
		a.tickedAt += time.Duration(elapsed) * time.Second
		a.advance.command = &registry.Command{ID: a.commandID(), AdvanceTick: &registry.AdvanceTick{Elapsed: elapsed}}
	}
	if a.advance.command == nil || a.advance.flying {
		return
	}
	a.advance.flying = true
	a.submit(proposal{command: *a.advance.command, done: func(_ registry.Result, err error) {
		a.advance.flying = false
		if err == nil {
			a.advance.command = nil
		}
	}})
}
