package check

import (
	"fmt"
	"time"
)

// Goal is what a mesh comes back to when the last fault is over.
type Goal int

// The goals.
const (
	Led       Goal = iota // an arbiter serves
	Streams               // every node has a stream to it
	Egresses              // every egress address has one owner, which the registry names
	Logins                // a new login works
	Slices                // every slice of a living session is up
	Clients               // every client that has a session is connected for control
	Histories             // all replicas have applied the same
	Rest                  // every client has parked, where they do
	goals
)

var goalWords = [goals]string{
	"an arbiter serves", "every node has a stream to the arbiter", "every egress address has its one owner", "a new login works",
	"every slice of a living session is up", "every client is connected for control, or parked", "all replicas have applied the same", "every client has parked",
}

// within is how long it takes at most. Where the promise is of one fault, and several may
// have come together, what one has to wait for comes on top.
var within = [goals]time.Duration{
	Led:       3 * time.Second,  // an arbiter dies: a new one within 3 s
	Streams:   5 * time.Second,  // 1.5 s of silence, and a second try, behind it
	Egresses:  4 * time.Second,  // one-way drops settle 3 s after healing; two owners 1 s
	Logins:    6 * time.Second,  // new logins work 3 s after: the login itself, behind Led
	Slices:    10 * time.Second, // RebuildGrace is 7 s, then a grant and its first packet
	Clients:   15 * time.Second, // every session accounted for <= 15 s
	Histories: 5 * time.Second,  // a follower is filled
	Rest:      35 * time.Second, // no sooner than its slices are all up: one that was lost last is granted anew 30 s later
}

// String is the goal in words.
func (g Goal) String() string { return goalWords[g] }

// Within is the bound of a goal.
func (g Goal) Within() time.Duration { return within[g] }

// recovery is what was seen since the last fault was over.
type recovery struct {
	healed  time.Duration
	begun   bool
	reached [goals]bool
	missed  [goals]bool   // its bound, which is said once
	why     [goals]string // of the last look, why not
}

// Healed says that the last fault is over.
func (j *Judge) Healed(at time.Duration) { j.recovery = recovery{healed: at, begun: true} }

// IsHealed says that the last fault is over.
func (j *Judge) IsHealed() bool { return j.recovery.begun }

// Stands says whether a goal is reached, and if not, why. Once its time is over, it is
// reached at every look.
func (j *Judge) Stands(at time.Duration, g Goal, so bool, why string) {
	r := &j.recovery
	if !r.begun {
		return
	}
	late := at > r.healed+g.Within()
	if late && !so && r.reached[g] {
		j.fail(at, "recovery", "%v no more, %v after the last fault: %s", g, (at - r.healed).Round(time.Millisecond), why)
	} else if late && !so && !r.missed[g] {
		r.missed[g] = true
		j.fail(r.healed+g.Within(), "recovery", "not so %v after the last fault: %v (%s)", g.Within(), g, why)
	}
	r.reached[g], r.why[g] = r.reached[g] || so, why
}

// WhileOne is how long one fault of one node may go on until the others do without it.
const WhileOne = 6 * time.Second

// WrongClock is how far a clock is wrong with which nobody may lead, and ClockWithin how
// long anybody does.
const (
	WrongClock  = time.Minute
	ClockWithin = 4 * time.Second
)

// Meanwhile says what the others lack though a fault has lasted so long; empty: nothing.
func (j *Judge) Meanwhile(at, lasts time.Duration, fault, lack string) {
	if lack != "" {
		j.fail(at, "recovery", "%s for %v, and meanwhile %s", fault, lasts, lack)
	}
}

// End of the run: whatever its bound would be, no goal is left unreached that was looked at.
func (j *Judge) End(at time.Duration) {
	j.Tick(at)
	for g := range goals {
		if r := &j.recovery; r.begun && !r.reached[g] && r.why[g] != "" {
			j.fail(at, "recovery", "the run ends, %v after the last fault, without that %v (%s)", at-r.healed, g, r.why[g])
		}
	}
}

// Bounds are the goals with their bounds, for a heading.
func Bounds() (lines []string) {
	for g := range goals {
		lines = append(lines, fmt.Sprintf("%v: %v", g, g.Within()))
	}
	return lines
}
