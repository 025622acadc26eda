//go:build e2e

package netns

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// limitFiles sets how many files a host's daemon may have open, and gives what it was.
func (h *host) limitFiles(most uint64) (was uint64) {
	h.mesh.Helper()
	var limit unix.Rlimit
	err := unix.Prlimit(h.process.PID(), unix.RLIMIT_NOFILE, nil, &limit)
	was, limit.Cur = limit.Cur, most
	if err = cmp.Or(err, unix.Prlimit(h.process.PID(), unix.RLIMIT_NOFILE, &limit, nil)); err != nil {
		h.mesh.Fatalf("prlimit of %s: %v", h.Name, err)
	}
	return was
}

// Limits of what an arbiter that can open nothing more may cost.
const (
	lackNamed = 10 * time.Second
	lackLeads = 10 * time.Second
	lackWell  = 60 * time.Second
)

// TestArbiterWithoutDescriptors: the arbiter's process may open no more files than it has,
// and another voter dies. Before, it kept the lead by the connections that were open, and
// the third voter reached no arbiter for as long as that lasted. Now that one leads, a
// client logs in there, both say which host lacks what, and all is well by itself after.
func TestArbiterWithoutDescriptors(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 3)
	m.up()
	m.connect()
	visitor := m.newVisitor()
	poor, dies := m.nodes[0], m.nodes[1]
	if status, err := poor.status(); err != nil || status.Arbiter != poor.Name {
		m.Fatalf("%s does not lead: %q, %v", poor.Name, status.Arbiter, err)
	}
	dies.process.Kill()
	time.Sleep(time.Second) // what led to it is closed
	few := uint64(m.taken(poor.process).descriptors - 10)
	was := poor.limitFiles(few)
	begin := time.Now()
	m.nodes = []*host{m.nodes[2], poor, dies} // who is asked first
	leads := m.otherArbiter(lackLeads, poor)
	t.Logf("%s leads after %v", leads.Name, time.Since(begin).Round(time.Millisecond))
	says := fmt.Sprintf("the daemon has all the files open that it may (%d)", few)
	poor.says(lackNamed, says, "prlimit --pid")
	leads.says(lackNamed, "on "+poor.Name+" "+says, "prlimit --pid")
	m.Until("a client logs in", lackLeads, func() error { return visitor.login(leads) })
	if log, err := os.ReadFile(poor.process.Log); err != nil || bytes.Count(log, []byte("port cannot accept")) > 20 {
		t.Errorf("its log is full of one line, or %v", err)
	}
	poor.limitFiles(was)
	dies.start("run")
	m.Until("nobody lacks anything", lackWell, m.well)
}
