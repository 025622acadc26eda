package arbiter

import (
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestVoterWithAFullDisk: what it says goes to all nodes at once, it is not called one that
// does not answer.
func TestVoterWithAFullDisk(t *testing.T) {
	q := newQuorum(t)
	said := "/var/lib/meshcrypt is full: free space there"
	tell := func(disk string) {
		nodeSaid{q.second, &protocol.Node{Load: &protocol.Load{Used: 0.1, Disk: disk}}}.apply(q.a)
	}
	told := func() string {
		for _, row := range q.a.book.nodes {
			if row.ID == q.second.node {
				return row.Disk
			}
		}
		return "no row"
	}
	tell(said)
	if told() != said {
		t.Errorf("nodes are told %q", told())
	}
	q.after(StandbyPatience + time.Second)
	r := q.a.replicas[q.second.node]
	if r.standing != unwritten || !strings.Contains(r.unfit, "on n2 the disk below "+said) {
		t.Errorf("standing %v, %q", r.standing, r.unfit)
	}
	tell(strings.Repeat("x", 2*MaxFault))
	if len(told()) != MaxFault {
		t.Errorf("%d bytes are passed on", len(told()))
	}
	tell("")
	if told() != "" {
		t.Errorf("nodes are told %q", told())
	}
}
