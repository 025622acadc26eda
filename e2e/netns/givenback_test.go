//go:build e2e

package netns

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// taken is what a daemon has of its kernel just now.
type taken struct{ threads, descriptors int }

func (m *mesh) taken(p *lab.Process) (t taken) {
	m.Helper()
	for of, count := range map[string]*int{"task": &t.threads, "fd": &t.descriptors} {
		all, err := os.ReadDir(fmt.Sprintf("/proc/%d/%s", p.PID(), of))
		if err != nil {
			m.Fatalf("what the daemon has: %v", err)
		}
		*count = len(all)
	}
	return t
}

// TestLoginsAreGivenBack: sessions that end, some without a word, leave their gateway
// no threads, and no descriptors but those of the rows that it keeps for their return.
func TestLoginsAreGivenBack(t *testing.T) {
	t.Parallel()
	const logins = 9
	m := newMesh(t, 2)
	m.up()
	gateway := m.nodes[0]
	login := func(n int) {
		m.connectBusy()
		if n%3 == 2 {
			m.client.process.Kill()
		} else {
			m.disconnect()
		}
	}
	login(2) // what the first one starts stays
	before := m.taken(gateway.process)
	for n := range logins {
		login(n)
	}
	m.Until("the connections of ended sessions to go", 60*time.Second, func() error {
		s, err := gateway.status()
		if err != nil || s.Gateway == nil {
			return fmt.Errorf("no status of the gateway: %v", err)
		}
		now := m.taken(gateway.process)
		t.Logf("%+v, before %d logins %+v; %+v", now, logins, before, *s.Gateway)
		// The runtime starts a thread now and then, whoever asks; a status is a connection.
		if now.threads > before.threads+logins/2 || now.descriptors > before.descriptors+s.Gateway.Ports+2 {
			return fmt.Errorf("%+v, before %d logins %+v, and %d ports", now, logins, before, s.Gateway.Ports)
		}
		return nil
	})
	if os.Getenv(envMatrix) != "all" {
		return // the ports go when the rows are idle and have rested, which takes two minutes
	}
	m.Until("the gateway's ports to go", 3*time.Minute, func() error {
		s, err := gateway.status()
		if err != nil || s.Gateway.Ports != 0 || s.Gateway.Rows != 0 {
			return fmt.Errorf("%+v, %v", s.Gateway, err)
		}
		if now := m.taken(gateway.process); now.descriptors > before.descriptors+2 {
			return fmt.Errorf("%+v, before any login %+v", now, before)
		}
		return nil
	})
}
