package slicing

import "time"

// Thresholds of Auto. Spraying one flow over several agents reorders it, so it
// is tried only where one agent is full and another is not, and kept only
// where more bytes pass than before.
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
	// TrialTime is how long spraying has to prove itself, and TrialGain by how
	// much more bytes a second than in the SprayAfter before.
	TrialTime = 2 * time.Second
	TrialGain = 1.05
	// RetryMin is the pause after a trial that failed; each further failure
	// doubles it, to RetryMax.
	RetryMin = 30 * time.Second
	RetryMax = 10 * time.Minute
)

// Auto chooses for mode auto: Pin, every flow on one slice, never slower than
// one agent; or Burst, when the agent of some slice is full while another has
// room, as long as that moves more (patent step 4a: "or use fewer agents in
// the session"). The zero value starts calm. It is owned by one goroutine.
type Auto struct {
	spraying bool
	trial    bool          // spraying, not proven yet
	pending  bool          // the other choice has been due
	since    time.Duration // for so long; of a trial: its start
	carried  uint64        // at since
	rate     float64       // bytes per second before the trial
	retryAt  time.Duration // no trial before
	pause    time.Duration // after the next failure
}

// Choose takes the loads, 0..1, of the agents of all usable slices, and the
// bytes that the session has carried so far.
func (a *Auto) Choose(now time.Duration, loads []float64, carried uint64) Mode {
	switch {
	case a.trial:
		a.judge(now, carried)
	case a.spraying:
		if a.held(now, carried, calm(loads), CalmAfter) {
			a.spraying = false
		}
	case a.held(now, carried, now >= a.retryAt && worthSpraying(loads), SprayAfter):
		a.rate = a.pace(now, carried)
		a.spraying, a.trial, a.since, a.carried = true, true, now, carried
	}
	if a.spraying {
		return Burst
	}
	return Pin
}

// held reports whether a change has been due for so long.
func (a *Auto) held(now time.Duration, carried uint64, due bool, wait time.Duration) bool {
	switch {
	case !due:
		a.pending = false
	case !a.pending:
		a.pending, a.since, a.carried = true, now, carried
	case now-a.since >= wait:
		a.pending = false
		return true
	}
	return false
}

// judge ends a trial when its time is over.
func (a *Auto) judge(now time.Duration, carried uint64) {
	if now-a.since < TrialTime {
		return
	}
	a.trial = false
	if a.pace(now, carried) >= TrialGain*a.rate {
		a.pause = 0
		return
	}
	a.pause = min(max(2*a.pause, RetryMin), RetryMax)
	a.spraying, a.retryAt = false, now+a.pause
}

// pace is the bytes per second since a.since.
func (a *Auto) pace(now time.Duration, carried uint64) float64 {
	return float64(carried-a.carried) / (now - a.since).Seconds()
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
