package node

import (
	"errors"
	"strings"
	"testing"
)

// TestNotLeft: who waited for long hears what is left, and of an arbiter that was not
// reached that it was not.
func TestNotLeft(t *testing.T) {
	for _, c := range []struct {
		slices int
		last   error
		says   string
	}{
		{3, nil, "3 slices on it are moved"},
		{0, nil, "the arbiter did not confirm"},
		{3, errors.New("no arbiter"), "did not confirm (no arbiter)"},
	} {
		if said := notLeft(c.slices, c.last).Error(); !strings.Contains(said, c.says) {
			t.Errorf("%d slices, %v: %s", c.slices, c.last, said)
		}
	}
}
