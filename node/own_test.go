package node

import (
	"testing"
	"time"
)

// TestExposureIsCalm: strangers count as soon as they are seen, and for a minute after.
func TestExposureIsCalm(t *testing.T) {
	var e exposure
	at := time.Now()
	for i, step := range []struct {
		after         time.Duration
		seen, is, new bool
	}{
		{0, false, false, false},
		{time.Second, true, true, true},
		{time.Second, false, true, false},
		{ExposedFor - 2*time.Second, true, true, false},
		{ExposedFor - time.Second, false, true, false},
		{time.Second, false, false, true},
		{time.Second, false, false, false},
	} {
		at = at.Add(step.after)
		if changed := e.judge(step.seen, at); changed != step.new || e.is != step.is {
			t.Errorf("step %d: exposed %v, changed %v", i, e.is, changed)
		}
	}
}
