package lab

import (
	"errors"
	"fmt"
	"time"
)

// Beside is a flow each way between two hosts of their own, whom nobody
// disturbs. One machine carries every host, and other work too: how long this
// flow stood still is what that cost all that ran at the same time.
type Beside struct {
	ways  []*Transfer
	worst time.Duration // before the last Forget
}

const (
	// besidePace of each flow, in Mbit/s, is a block every 10 ms.
	besidePace = 50
	// SpoiledFrom is the pause of the flow beside from which a missed limit may be
	// the machine's doing.
	SpoiledFrom = 50 * time.Millisecond
	// SpoiledTries is how often something is tried that the machine spoils.
	SpoiledTries = 3
)

// Beside begins one; it ends with the test.
func (w *World) Beside() *Beside {
	w.Helper()
	near, far := w.Space("beside1"), w.Space("beside2")
	w.Wire(near, "far", far, "near")
	near.Sh("ip address add 10.0.0.1/24 dev far")
	far.Sh("ip address add 10.0.0.2/24 dev near")
	b := &Beside{}
	for _, down := range []bool{false, true} {
		b.ways = append(b.ways, w.Transfer(near, far, "10.0.0.2", Plan{Pace: besidePace, Down: down}))
	}
	return b
}

// Forget begins the measurement anew.
func (b *Beside) Forget() {
	b.worst = b.Worst()
	for _, way := range b.ways {
		way.Forget()
	}
}

// Stall is the longest that either way stood since the last Forget.
func (b *Beside) Stall() (longest time.Duration) {
	for _, way := range b.ways {
		longest = max(longest, way.Stall())
	}
	return longest
}

// Worst is the longest that either way ever stood.
func (b *Beside) Worst() time.Duration { return max(b.worst, b.Stall()) }

// Late is a missed limit of time.
type Late struct {
	What string
	// Beside is how long the flow beside stood meanwhile.
	Beside time.Duration
}

func (l Late) Error() string {
	return fmt.Sprintf("%s; the flow beside stood for %v", l.What, l.Beside)
}

// InTime wants a time to be within its limit, but for what the machine cost the
// flow beside; else the error is Late.
func InTime(what string, took, beside, limit time.Duration) error {
	if took-beside <= limit {
		return nil
	}
	return Late{fmt.Sprintf("%s: %v, limit %v", what, took, limit), beside}
}

// Spoiled says that an error may be the machine's doing. The difference alone is
// too strict: TCP waits twice as long each time, so that a short pause of the
// machine can cost a long one of a flow.
func Spoiled(err error) bool {
	l, ok := errors.AsType[Late](err)
	return ok && l.Beside >= SpoiledFrom
}

// Again tries again what the machine spoiled; the last try counts in any case.
func Again(t T, try func() error) (err error) {
	t.Helper()
	for n := 1; ; n++ {
		if err = try(); n == SpoiledTries || !Spoiled(err) {
			return err
		}
		t.Logf("SPOILED by the machine, try %d of %d: %v", n, SpoiledTries, err)
	}
}
