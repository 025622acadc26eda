//go:build e2e

package netns

import (
	"cmp"
	"fmt"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// spareStall is the worst that a session of one slice may stand when its agent goes.
const spareStall = time.Second

// TestSpareGoesOn: a session of one slice and a spare loses its agent together with the
// arbiter, so nobody can grant anything. The data plane alone goes on over the spare.
func TestSpareGoesOn(t *testing.T) {
	m := newMesh(t, 3)
	m.watch("client")
	m.up()
	m.connect("--bandwidth", "100mbit")
	first := m.slices(2)
	if len(first.Slices) != 2 {
		t.Fatalf("%d slices, want one and a spare: %+v", len(first.Slices), first.Slices)
	}
	for try := range tries(t) {
		if err := lab.Again(t, func() error { return m.loseMain(try) }); err != nil {
			t.Errorf("try %d: %v", try+1, err)
		}
	}
	if last := m.slices(1); last.ID != first.ID {
		t.Errorf("the session did not survive: %s, then %s", first.ID, last.ID)
	}
}

// loseMain powers the host of the session's one agent off, once that leads.
func (m *mesh) loseMain(try int) error {
	m.Helper()
	m.slices(2)
	w := m.pacedBoth()
	var r roles
	var v *host
	m.Until("the session's agent leads", 30*time.Second, func() (err error) {
		if r, err = m.rolesInUse(); err != nil {
			return err
		}
		main := r.mainAgent()
		if main == "" || main != r.leader {
			m.node(r.leader).try("operator", "raft", "transfer-leader", main)
			return fmt.Errorf("%v", r)
		}
		v = m.node(main)
		return nil
	})
	m.flowingBy(2<<20, w.down, w.up)
	cost := m.quiet()
	w.forget()
	vanished.strike(m, v)
	time.Sleep(6 * time.Second)
	stall, beside := w.stall(), cost.Stall()
	m.t.Logf("try %d: %s of %s (%v): stall down %d ms, up %d ms, of the flow beside %d ms", try+1, vanished.how, v.Name, r,
		w.down.Stall().Milliseconds(), w.up.Stall().Milliseconds(), beside.Milliseconds())
	reports := w.finish()
	vanished.mend(m, v)
	v.start("run")
	m.ready(len(m.nodes))
	const fault = "one slice's agent off that leads"
	return cmp.Or(unbroken(fault, reports...), took(fault, "stall", stall, beside, spareStall))
}

// mainAgent carries the session's traffic, by its first slice.
func (r roles) mainAgent() string {
	for _, s := range r.session.Slices {
		if s.Number == 0 && s.State == "up" {
			return s.Agent
		}
	}
	return ""
}
