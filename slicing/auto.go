package slicing

import "time"

// Thresholds of Auto. Spraying one flow over several agents reorders it, so it
// pays only where one agent is full and another is not.
const (
	// FullLoad is when an agent has no room for more.
	FullLoad = 0.85
	// RoomBelow is how much less loaded another agent must be to be worth it.
	RoomBelow = 0.25
	// CalmLoad is when one agent per flow is enough again.
	CalmLoad = 0.6
	// SprayAfter and CalmAfter are how long either must hold.
	SprayAfter = time.Second
	CalmAfter  = 5 * time.Second
)

// Auto chooses for mode auto: Pin, every flow on one slice, never slower than
// one agent; or Burst, when the agent of some slice is full while another has
// room (patent step 4a: "or use fewer agents in the session"). The zero value
// starts calm. It is owned by one goroutine.
type Auto struct {
	spraying bool
	pending  bool          // the other choice has been due
	since    time.Duration // for so long
}

// Choose takes the loads, 0..1, of the agents of all usable slices.
func (a *Auto) Choose(now time.Duration, loads []float64) Mode {
	due, wait := worthSpraying(loads), SprayAfter
	if a.spraying {
		due, wait = calm(loads), CalmAfter
	}
	switch {
	case !due:
		a.pending = false
	case !a.pending:
		a.pending, a.since = true, now
	case now-a.since >= wait:
		a.spraying, a.pending = !a.spraying, false
	}
	if a.spraying {
		return Burst
	}
	return Pin
}

func worthSpraying(loads []float64) bool {
	lowest, highest := extremes(loads)
	return highest >= FullLoad && highest-lowest >= RoomBelow
}

func calm(loads []float64) bool {
	_, highest := extremes(loads)
	return highest < CalmLoad
}

func extremes(loads []float64) (lowest, highest float64) {
	for i, load := range loads {
		if i == 0 {
			lowest, highest = load, load
		}
		lowest, highest = min(lowest, load), max(highest, load)
	}
	return lowest, highest
}
