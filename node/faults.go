package node

import (
	"context"
	"sync/atomic"
	"time"
)

// hostFaults are what was wrong on this host when it was looked at last. They are
// looked for apart from the loops, for a large firewall takes its time to read.
type hostFaults struct {
	seen atomic.Pointer[[]string]
}

func (f *hostFaults) all() []string {
	if seen := f.seen.Load(); seen != nil {
		return *seen
	}
	return nil
}

// keepFaults looks again and again, less often where that takes long.
func (n *Node) keepFaults(ctx context.Context) {
	for {
		begin := time.Now()
		found := n.obstacles()
		n.faults.seen.Store(&found)
		select {
		case <-ctx.Done():
			return
		case <-time.After(max(FaultsEvery, FaultsShare*time.Since(begin))):
		}
	}
}
