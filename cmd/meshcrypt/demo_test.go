package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/meshcrypt/meshcrypt/cmd/meshcrypt/demo"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestDemoExit: whatever a demo failed for, its exit code is FAIL's, for it judges no mesh of the
// user's, and what leads on is the demo's own word. What was printed is not printed again.
func TestDemoExit(t *testing.T) {
	for what, c := range map[string]struct {
		passed bool
		err    error
		want   failure
	}{
		"PASS":            {true, nil, failure{}},
		"time is up":      {false, &demo.Failed{Cause: fmt.Errorf("x: %w", context.DeadlineExceeded), Next: "see"}, failure{"demo: x: context deadline exceeded", "see", control.CodeFailed}},
		"FAIL":            {false, &demo.Failed{Next: "see"}, failure{"", "see", control.CodeFailed}},
		"its first's end": {false, nil, failure{"", "", control.CodeFailed}},
		"told to end":     {false, demo.ErrInterrupted, failure{demo.ErrInterrupted.Error(), "", control.CodeFailed}},
		"refused":         {false, &demo.Refused{What: "a TUN", Cause: errors.New("no"), Next: "see"}, failure{code: 77}},
	} {
		if f := explain(demoExit(c.passed, c.err)); f != c.want {
			t.Errorf("%s: %+v, want %+v", what, f, c.want)
		}
	}
}
