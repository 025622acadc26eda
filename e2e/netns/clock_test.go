//go:build e2e

package netns

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// otherLeads is within what an arbiter with a wrong clock gives way.
const otherLeads = 10 * time.Second

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
	for _, n := range m.nodes {
		n.env = append(n.env, "MESHCRYPT_CLOCK_OFFSET=@"+m.File(n.Name, "clock"))
	}
	m.up()
	m.connect("--slice-mode", "burst")
	for try := range tries(t) {
		if err := lab.Again(t, m.jump); err != nil {
			t.Errorf("try %d: %v", try+1, err)
		}
	}
}

// jump is one jump of whoever leads, and its end.
func (m *mesh) jump() error {
	m.Helper()
	const fault = "leader's clock an hour ahead"
	w, cost := m.pacedBoth(), m.quiet()
	v := m.node(m.settledRoles().leader)
	m.nodes = append(m.othersThan(v), v) // who is asked first
	begin := time.Now()
	v.setClock(time.Hour)
	m.otherArbiter(4*otherLeads, v)
	leads, beside := time.Since(begin), cost.Stall()
	for _, n := range m.othersThan(v) {
		n.says(20*time.Second, "the clock of "+v.Name+" is 1h0m", "ahead", "timedatectl")
	}
	v.says(20*time.Second, "the clock of this host is 1h0m", "ahead")
	stall := w.stall()
	broken := unbroken(fault, w.finish()...)
	m.client.process.Terminate(10 * time.Second)
	cost.Forget()
	login := m.connect()
	m.t.Logf("%s: another arbiter answers after %v, a login takes %v", v.Name, leads.Round(time.Millisecond), login.Round(time.Millisecond))
	err := errors.Join(took(fault, "until another leads", leads, beside, otherLeads),
		took(fault, "stall", stall, cost.Worst(), agentStall),
		took(fault, "a login then", login, cost.Stall(), loginsAgain))
	v.setClock(0)
	m.ready(len(m.nodes))
	return cmp.Or(broken, err)
}
