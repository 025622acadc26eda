package node

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/node/agent"
)

// TestGravity: who lost an election before its term began is no news; who cannot serve is.
func TestGravity(t *testing.T) {
	for err, want := range map[error]slog.Level{
		fmt.Errorf("arbiter: barrier: %w", consensus.ErrNotLeader):      slog.LevelDebug,
		fmt.Errorf("arbiter: barrier: %w", consensus.ErrOutcomeUnknown): slog.LevelError,
		errors.New("arbiter: the data key is not wrapped to this node"): slog.LevelError,
	} {
		if got := gravity(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// TestRepeatsAreCounted: as often at once as the agent repeats a line, then after a minute with
// how often it was left out.
func TestRepeatsAreCounted(t *testing.T) {
	now, lines := time.Hour, 0
	may := repeats(func() time.Duration { return now })
	for range 10 * agent.SaidFree {
		if left, ok := may(); ok && left == nil {
			lines++
		}
	}
	now += time.Minute
	if left, ok := may(); lines != agent.SaidFree || !ok || !slices.Equal(left, []any{"times_not_said", 9 * agent.SaidFree}) {
		t.Errorf("%d lines at once, want %d; then %v, %v", lines, agent.SaidFree, left, ok)
	}
}
