//go:build e2e

package netns

import (
	"fmt"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// TestWeekOff: every certificate of the mesh runs out while it is switched off
// for eight days; it elects a leader, renews by itself and serves again. The
// clock is moved by a variable that only this build heeds.
func TestWeekOff(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 4)
	m.watch("client")
	m.up()
	m.connect()
	before := m.certificates()
	m.client.process.Terminate(10 * time.Second)
	for _, n := range m.nodes {
		if !n.process.Terminate(15 * time.Second) {
			t.Errorf("%s does not stop when asked to", n.Name)
			n.process.Kill()
		}
	}
	m.env = append(m.env, "MESHCRYPT_CLOCK_OFFSET=192h")
	begin := time.Now()
	for _, n := range m.nodes {
		n.start("run")
	}
	m.ready(len(m.nodes))
	t.Logf("all members up %v after the start", time.Since(begin).Round(time.Millisecond))
	m.Until("every certificate is renewed", 30*time.Second, func() error {
		for name, left := range m.certificates() {
			if left <= 0 || left > 25*time.Hour {
				return fmt.Errorf("%s has %v left, had %v", name, left, before[name])
			}
		}
		return nil
	})
	took := m.connect()
	r := m.transfer(lab.Plan{Bytes: 20 << 20, Down: true}).Wait(within(30 * time.Second))
	t.Logf("client connected after %v; %v", took, r)
	if err := r.Check(); err != nil {
		t.Error(err)
	}
}

// certificates is how long each node's is still valid.
func (m *mesh) certificates() map[string]time.Duration {
	m.Helper()
	left := map[string]time.Duration{}
	for _, n := range m.nodes {
		status, err := n.status()
		if err != nil {
			m.Logf("%v", err)
		}
		left[n.Name] = status.CertLeft
	}
	return left
}
