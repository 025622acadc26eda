package ask

import (
	"context"
	"testing"
)

// TestAnsweredOrNeverRun: whoever was told so may rely on it, both ways.
func TestAnsweredOrNeverRun(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	over := make(chan struct{})
	close(over)
	for _, c := range []struct {
		name string
		ctx  context.Context
		over chan struct{}
	}{{"nobody waits", gone, nil}, {"the loop is over", t.Context(), over}} {
		ran := false
		q := New(func() { ran = true })
		if q.Wait(c.ctx, c.over) {
			t.Errorf("%s: answered by nobody", c.name)
		}
		if q.Answer(); ran {
			t.Errorf("%s: run for somebody who was told that it was not", c.name)
		}
	}
	ran := 0
	q := New(func() { ran++ })
	go q.Answer()
	if !q.Wait(t.Context(), nil) || ran != 1 {
		t.Errorf("run %d times", ran)
	}
	if q.Answer(); !q.Wait(gone, over) || ran != 1 {
		t.Errorf("run %d times, and asked for again", ran)
	}
}
