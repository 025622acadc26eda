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
	// CalmLoad is when one step less is enough again.
	CalmLoad = 0.6
	// StepAfter and CalmAfter are how long either must hold.
	StepAfter = time.Second
	CalmAfter = 5 * time.Second
	// TrialTime is how long a step up has to prove itself against the StepAfter
	// before it: the last one, to spraying, by SprayGain times the bytes a
	// second; any other by not losing more than StepKeep leaves.
	TrialTime = 2 * time.Second
	SprayGain = 1.05
	StepKeep  = 0.95
	// RetryMin is the pause after a trial that failed; each further failure
	// doubles it, to RetryMax.
	RetryMin = 30 * time.Second
	RetryMax = 10 * time.Minute
	// MaxSteps bounds the ladder.
	MaxSteps = 2
)

// Auto chooses for mode auto how far a session is spread: step 0 is the
// calmest way its owner has, the last step sprays. It takes a step up while
// the agent of some slice is full and another has room, as long as that moves
// more, and one down when all have room (patent step 4a: "or use fewer agents
// in the session"). It starts calm and is owned by one goroutine.
type Auto struct {
	steps int // the last one's number
	step  int

	trial   bool          // the present step is not proven yet
	wish    int           // +1, -1: a step that is due, 0: none
	since   time.Duration // of the wish, or of the trial
	carried uint64        // at since
	rate    float64       // bytes per second before the trial

	retryAt [MaxSteps + 1]time.Duration // no trial of that step before
	pause   [MaxSteps + 1]time.Duration // after its last failure
}

// NewAuto has steps 0 to last, 1 or 2.
func NewAuto(last int) Auto { return Auto{steps: min(max(last, 1), MaxSteps)} }

// Choose takes the loads, 0..1, of the agents of all usable slices, and the
// bytes that the session has carried so far.
func (a *Auto) Choose(now time.Duration, loads []float64, carried uint64) (step int) {
	if a.trial {
		a.judge(now, carried)
		return a.step
	}
	wish := a.due(now, loads)
	switch held := now - a.since; {
	case wish != a.wish:
		a.wish, a.since, a.carried = wish, now, carried
	case wish > 0 && held >= StepAfter:
		a.rate = a.pace(now, carried)
		a.step++
		a.wish, a.trial, a.since, a.carried = 0, true, now, carried
	case wish < 0 && held >= CalmAfter:
		a.step--
		a.wish = 0
	}
	return a.step
}

// due is the step that the loads ask for.
func (a *Auto) due(now time.Duration, loads []float64) int {
	_, highest := extremes(loads)
	switch {
	case a.step > 0 && highest < CalmLoad:
		return -1
	case a.step < a.steps && now >= a.retryAt[a.step+1] && Uneven(loads):
		return +1
	}
	return 0
}

// Uneven reports whether an agent is full while another has room: no session takes a
// step up without that, and none over some of the agents if it is not so over all.
func Uneven(loads []float64) bool {
	lowest, highest := extremes(loads)
	return highest >= FullLoad && highest-lowest >= RoomBelow
}

// Rests reports whether nothing but uneven loads can change what Choose says.
func (a *Auto) Rests() bool { return a.step == 0 && !a.trial && a.wish == 0 }

// Begins reports whether it rests and no trial has failed lately: a new one says the same.
func (a *Auto) Begins() bool { return a.Rests() && a.pause == [MaxSteps + 1]time.Duration{} }

// judge ends a trial when its time is over.
func (a *Auto) judge(now time.Duration, carried uint64) {
	if now-a.since < TrialTime {
		return
	}
	a.trial = false
	gain := StepKeep
	if a.step == a.steps {
		gain = SprayGain
	}
	pause := &a.pause[a.step]
	if a.pace(now, carried) >= gain*a.rate {
		*pause = 0
		return
	}
	*pause = min(max(2**pause, RetryMin), RetryMax)
	a.retryAt[a.step] = now + *pause
	a.step--
}

// pace is the bytes per second since a.since.
func (a *Auto) pace(now time.Duration, carried uint64) float64 {
	return float64(carried-a.carried) / (now - a.since).Seconds()
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
