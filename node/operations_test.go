package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestUncommitted: an operator reads whether a change can have happened, in his words.
func TestUncommitted(t *testing.T) {
	for _, c := range []struct {
		err  error
		says string
	}{
		{fmt.Errorf("%w: leadership lost", consensus.ErrNotLeader), "so nothing was done"},
		{fmt.Errorf("%w: %w", consensus.ErrOutcomeUnknown, context.DeadlineExceeded), "may yet happen"},
		{errors.New("frozen"), "frozen"},
	} {
		err := uncommitted(c.err)
		if control.CodeOf(err) != control.CodeDegraded || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "consensus") ||
			strings.Contains(err.Error(), "context") {
			t.Errorf("%v: %v", c.err, err)
		}
	}
}
