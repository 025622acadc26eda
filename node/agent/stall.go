package agent

import (
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/said"
)

// Stalled is the packet engine's word that this process stood still. If it is
// lost, the next tick hears of it too.
func (a *Agent) Stalled(time.Duration) { a.enqueue(stalled{}) }

type stalled struct{}

func (stalled) apply(a *Agent) { a.superviseEngine(a.config.Now()) }

// superviseEngine lets a packet engine go on that stopped because this process
// stood still: others may have taken its slices over meanwhile (design 9).
// After a short stop it goes on with the keys whose time is not over; after a
// long one it starts anew: nothing is sealed under keys that somebody may have
// given up. SAs with other nodes stay: no arbiter gives them to anybody else, the other end
// goes on sealing under them, and this one would drop all that it hands on. It reports
// whether the process stood still.
func (a *Agent) superviseEngine(now time.Duration) bool {
	stood := a.config.Engine.Tick()
	if stood == 0 {
		return false
	}
	why := "this node stood still"
	if a.config.Engine.Hung() {
		why = "this node's agent had no turn"
		a.sayLate(now, stood)
	} else if unsaid, ok := a.stalls.Say(now, SaidFree, SaidRate); ok {
		a.config.Log.Warn("this process stood still", append([]any{"for", stood.Round(time.Millisecond)}, said.Left(unsaid)...)...)
	}
	a.sound.stopped(now, stood)
	if stood > RestartAfter {
		for _, s := range a.slices.inOrder() {
			if s.from.IsZero() {
				a.dropSlice(s, why)
			}
		}
		if a.stream != nil {
			a.stream.Close() // the next one tells what is still ours
		}
	}
	a.superviseSlices(now)
	a.publishIfDirty()
	a.config.Engine.Resume()
	return true
}

// sayLate tells an operator that this loop had no turn for so long, while the process ran: its
// packets go on, but other nodes hear no answer meanwhile, and the arbiter no word.
func (a *Agent) sayLate(now, late time.Duration) {
	if late <= dataplane.StallLimit {
		return
	}
	if unsaid, ok := a.lates.Say(now, SaidFree, SaidRate); ok {
		a.config.Log.Warn("the agent had no turn: it has much to do, or too little CPU",
			append([]any{"for", late.Round(time.Millisecond)}, said.Left(unsaid)...)...)
	}
}

// Violation is the packet engine's flag for packets that should not exist; it
// is rare by the engine's own limit.
func (a *Agent) Violation(reason string, source netip.Addr, count uint64) {
	a.enqueue(violation{reason, source, count})
}

type violation struct {
	reason string
	source netip.Addr
	count  uint64 // since the last one
}

// apply raises the flag at the arbiter (patent: "a security violation flag set
// for the server to see"). Packets from a stranger inside are one only when
// the arbiter had time to name him: a new member is heard before its row is.
func (e violation) apply(a *Agent) {
	if e.reason != dataplane.DropPeer.String() {
		a.flag(e)
		return
	}
	if _, waits := a.strangers[e.source]; !waits && len(a.strangers) < MaxStrangers {
		a.strangers[e.source] = a.config.Now()
	}
}

// judgeStrangers flags those inside addresses that are still nobody's.
func (a *Agent) judgeStrangers(now time.Duration) {
	for source, since := range a.strangers {
		if now-since < StrangerGrace {
			continue
		}
		delete(a.strangers, source)
		if !a.view.inside(source) {
			a.flag(violation{dataplane.DropPeer.String(), source, 1})
		}
	}
}

func (a *Agent) flag(e violation) {
	a.say(&protocol.Node{Violation: &protocol.Violation{Reason: e.reason, Source: e.source, Count: e.count}})
}
