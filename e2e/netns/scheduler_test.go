//go:build e2e

package netns

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/scheduler"
)

// TestMonitorsAreCalm: in a daemon and in a client one thread may be woken late, the second
// that the process made. That no goroutine runs on it, and that what the monitor made is so for
// a moment only, are node/scheduler's tests.
func TestMonitorsAreCalm(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1)
	m.up()
	m.connectBusy()
	for name, p := range map[string]*lab.Process{"daemon": m.nodes[0].process, "client": m.client.process} {
		m.Until(name+"'s second thread alone to be calm", 10*time.Second, func() error { return monitorIsCalm(p) })
	}
}

func monitorIsCalm(p *lab.Process) error {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/task", p.PID()))
	if err != nil {
		return err
	}
	defer dir.Close()
	threads, err := dir.Readdirnames(0)
	if err != nil {
		return err
	}
	var calm []string
	for _, thread := range threads {
		slack, err := os.ReadFile(fmt.Sprintf("/proc/%s/timerslack_ns", thread))
		if err == nil && strings.TrimSpace(string(slack)) == scheduler.MonitorSlack {
			calm = append(calm, thread)
		}
	}
	if len(calm) != 1 || calm[0] != threads[1] {
		return fmt.Errorf("calm are %v of %v", calm, threads)
	}
	return nil
}
