package node

import (
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/node/agent"
)

// TestDiskWords: each says where, what and what to do.
func TestDiskWords(t *testing.T) {
	for want, err := range map[string]error{
		"":                       nil,
		"/d is full: free space": fmt.Errorf("write: %w", syscall.ENOSPC),
		"/d is full: free":       syscall.EDQUOT,
		"/d fails (input/output error): look at dmesg": fmt.Errorf("sync: %w", syscall.EIO),
		"/d is slow (consensus: the disk is slow: 2s":  fmt.Errorf("%w: 2s for one write", consensus.ErrSlowDisk),
		"/d fails (EOF): mend":                         io.EOF,
	} {
		if says := diskWords("/d", err); !strings.HasPrefix(says, want) || (says == "") != (err == nil) {
			t.Errorf("%v: %q, want %q", err, says, want)
		}
	}
}

// TestFailingDiskIsNamed: this host's whatever is heard, another one's while an arbiter is;
// and a voter that cannot serve for its own disk blames nobody else.
func TestFailingDiskIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	founder, other := w.members[0], w.members[1]
	full := diskWords("/var/lib/meshcrypt", syscall.ENOSPC)
	founder.memory.ails.Store(&full)
	if all := founder.problems(agent.Report{}, nil, 1); len(all) < 2 || !strings.Contains(all[0], "cannot lead while its disk fails") ||
		strings.Contains(strings.Join(all, ""), "operator recover") {
		t.Errorf("%q", all)
	}
	founder.full.Store(true)
	w.says(founder, "the disk below", "is full: free space there")
	w.says(other, "on n1 the disk below", "is full: free space there")
	founder.full.Store(false)
	w.until("nobody says so any more", func() bool {
		return founder.diskSays() == "" && other.Node.members.find(founder.trust.Key.ID()).Disk == ""
	})
}
