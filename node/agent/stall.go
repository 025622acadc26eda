package agent

import (
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Stalled is the packet engine's word that this process stood still: others
// may have taken its slices over meanwhile (design 9).
func (a *Agent) Stalled(gap time.Duration) { a.enqueue(stalled{gap}) }

type stalled struct{ gap time.Duration }

// apply goes on after a short stop, and starts anew after a long one: nothing
// is sealed under keys that somebody may have given up.
func (e stalled) apply(a *Agent) {
	a.config.Log.Warn("this process stood still", "for", e.gap.Round(time.Millisecond))
	if e.gap > RestartAfter {
		for _, s := range a.slices.byKey {
			a.dropSlice(s, "this node stood still")
		}
		a.publishIfDirty()
		if a.stream != nil {
			a.stream.cancel() // the next one tells what is still ours
		}
	}
	a.config.Engine.Resume()
}

// Violation is the packet engine's flag for packets that should not exist; it
// is rare by the engine's own limit.
func (a *Agent) Violation(reason string, source netip.Addr) { a.enqueue(violation{reason, source}) }

type violation struct {
	reason string
	source netip.Addr
}

// apply raises the flag at the arbiter (patent: "a security violation flag set
// for the server to see").
func (e violation) apply(a *Agent) {
	a.say(&protocol.Node{Violation: &protocol.Violation{Reason: e.reason, Source: e.source, Count: 1}})
}
