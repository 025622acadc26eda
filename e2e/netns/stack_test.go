//go:build e2e

package netns

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// policyDrop is the firewall of a host that forwards for nobody.
const policyDrop = `nft 'add table ip hostfw; add chain ip hostfw forward { type filter hook forward priority 0; policy drop; }'`

// TestAgentThatMayNotForward: the firewall of one agent's host eats what it
// would forward. Its own status says so, and its slice of the client's packets
// reaches the destination through the egress.
func TestAgentThatMayNotForward(t *testing.T) {
	m := newMesh(t, 3)
	m.up()
	m.connect("--slice-mode", "burst")
	s := m.slices(2)
	var eats *host
	for _, slice := range s.Slices {
		if slice.Agent != s.Egress && slice.State == "up" {
			eats = m.node(slice.Agent)
		}
	}
	if eats == nil {
		t.Fatalf("no agent but the egress: %+v", s)
	}
	eats.Sh(policyDrop)
	m.Until(eats.Name+" finds that it does not forward", 20*time.Second, func() error {
		return degraded(eats, "does not forward")
	})
	for _, plan := range []lab.Plan{{Bytes: 50 << 20}, {Bytes: 50 << 20, Down: true}} {
		r := m.transfer(plan).Wait(within(60 * time.Second))
		t.Logf("down %v: %v", plan.Down, r)
		if err := r.Check(); err != nil {
			t.Error(err)
		}
	}
	status, err := eats.status()
	if err != nil || status.Delivered["inside"] == 0 {
		t.Errorf("%s handed nothing on: %+v, %v", eats.Name, status, err)
	}
}

// degraded is nil when a host's status exits 6 and says these words.
func degraded(h *host, words ...string) error {
	r := h.try("status")
	if r.Code != control.CodeDegraded {
		return notYet(r)
	}
	for _, word := range words {
		if !strings.Contains(r.Out, word) {
			return notYet(r)
		}
	}
	return nil
}

func notYet(r lab.Result) error {
	return fmt.Errorf("exit %d: %s%s", r.Code, r.Out, r.Stderr)
}
