package agent

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// TestSoundnessIsLogged: once when this node breaks and once when it forwards again, and
// nothing when it is trusted again.
func TestSoundnessIsLogged(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	f.Agent.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	for _, c := range []struct {
		faults []string
		lasts  time.Duration
		says   string
	}{
		{[]string{"the filter is gone"}, 2 * BrokenAfter, "does not forward as it should"},
		{nil, MendedAfter + time.Second, "forwards again"},
		{nil, WholeAfter, ""},
	} {
		f.faults = c.faults
		log.Reset()
		f.advance(c.lasts)
		if lines := strings.Count(log.String(), "forward"); lines != min(len(c.says), 1) || !strings.Contains(log.String(), c.says) {
			t.Errorf("want one line %q, have\n%s", c.says, &log)
		}
	}
}

// TestNobodyToHear: who has no peer that the arbiter hears is not deaf.
func TestNobodyToHear(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	if from := f.deafTo(f.Agent.config.Now()); from != "" {
		t.Errorf("deaf to %q", from)
	}
}
