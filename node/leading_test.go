package node

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus"
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
