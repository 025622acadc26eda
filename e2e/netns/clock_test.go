//go:build e2e

package netns

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// setClock moves one host's clock, by a file that only this build reads.
func (h *host) setClock(ahead time.Duration) {
	h.mesh.Helper()
	h.mesh.Write(ahead.String(), h.Name, "clock")
}

// says waits until a host's status has a sentence with these words in it.
func (h *host) says(limit time.Duration, words ...string) {
	h.mesh.Helper()
	h.mesh.Until(h.Name+" says "+strings.Join(words, ", "), limit, func() error {
		status, err := h.status()
		if err != nil {
			return err
		}
	sentences:
		for _, sentence := range status.Problems {
			for _, word := range words {
				if !strings.Contains(sentence, word) {
					continue sentences
				}
			}
			return nil
		}
		return fmt.Errorf("status says %q", status.Problems)
	})
}

// otherArbiter waits until a node but this one leads, and gives it.
func (m *mesh) otherArbiter(limit time.Duration, than *host) (other *host) {
	m.Helper()
	m.Until("another arbiter than "+than.Name, limit, func() error {
		_, arbiter, err := m.voters()
		if err == nil && (arbiter == "" || arbiter == than.Name) {
			err = fmt.Errorf("arbiter %q", arbiter)
		}
		if err == nil {
			other = m.node(arbiter)
		}
		return err
	})
	return other
}

// TestArbiterClockJumps: the arbiter's clock is an hour ahead from one moment to the next.
// Another one leads, a client logs in, the transfer under way goes on, and every node's
// status names the host. With its clock right again the host is back by itself.
func TestArbiterClockJumps(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 4)
	m.watch("client")
	n1 := m.nodes[0]
	n1.env = append(n1.env, "MESHCRYPT_CLOCK_OFFSET=@"+m.File(n1.Name, "clock"))
	m.up()
	m.connect("--slice-mode", "burst")
	down, up := m.transfer(lab.Plan{Down: true, Pace: 20}), m.transfer(lab.Plan{Pace: 20})
	m.flowing(down, up)
	if _, arbiter, err := m.voters(); err != nil || arbiter != n1.Name {
		t.Fatalf("the arbiter is %s, %v", arbiter, err)
	}
	begin := time.Now()
	n1.setClock(time.Hour)
	m.nodes = append(m.nodes[1:], n1) // who is asked first
	m.otherArbiter(10*time.Second, n1)
	t.Logf("another arbiter answers %v after the jump", time.Since(begin).Round(time.Millisecond))
	for _, n := range m.nodes[:3] {
		n.says(20*time.Second, "the clock of n1 is 1h0m", "ahead", "timedatectl")
	}
	n1.says(20*time.Second, "the clock of this host is 1h0m", "ahead")
	for _, transfer := range []*lab.Transfer{down, up} {
		if err := transfer.Finish(within(20 * time.Second)).Check(); err != nil {
			t.Error(err)
		}
	}
	m.client.process.Terminate(10 * time.Second)
	t.Logf("a login takes %v", m.connect())
	n1.setClock(0)
	m.ready(len(m.nodes))
}
