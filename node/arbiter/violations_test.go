package arbiter

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestViolationsAreKept by node and reason, with the newest source; a node
// cannot make the arbiter remember more than so many (I10).
func TestViolationsAreKept(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", registry.RoleAgent)
	say := func(reason, source string, count uint64) {
		v := &protocol.Violation{Reason: reason, Source: netip.MustParseAddr(source), Count: count}
		nodeSaid{n, &protocol.Node{Violation: v}}.apply(a)
	}
	say("auth", "198.51.100.7", 5)
	say("auth", "198.51.100.8", 0) // an older node's word counts as one
	say("source", "198.51.100.9", 1)
	say(strings.Repeat("x", MaxReason+1), "198.51.100.9", 1)
	all := a.violations[n.node]
	if len(all) != 2 || all[0].Count != 6 || all[0].Source != netip.MustParseAddr("198.51.100.8") || all[1].Reason != "source" {
		t.Errorf("%+v", all)
	}
	for i := range 2 * MaxViolations {
		say(fmt.Sprint("reason ", i), "198.51.100.7", 1)
	}
	if n := len(a.violations[n.node]); n != MaxViolations {
		t.Errorf("%d reasons, the limit is %d", n, MaxViolations)
	}
}
