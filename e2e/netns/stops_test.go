//go:build e2e

package netns

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A process that stands still for 900 ms of each second, for 20 s: it is never
// silent for long, and whatever goes by it is late or lost. Within settleStops
// everybody is to have left it.
const (
	standsFor   = 900 * time.Millisecond
	runsFor     = 100 * time.Millisecond
	stopsFor    = 20 * time.Second
	settleStops = 6 * time.Second
)

// stoppers are who stands still, the one first that every run plays.
var stoppers = []struct {
	name   string
	victim func(*mesh, roles) *host
}{
	{"gateway", (*mesh).mereGateway},
	{"egress", func(m *mesh, r roles) *host { return m.node(r.session.Egress) }},
	{"agent", (*mesh).agentBesideEgress},
}

// TestStandsStill: the client leaves a gateway and stays away; the second takes an
// egress's part and keeps it; an agent's slice is placed elsewhere and stays there.
func TestStandsStill(t *testing.T) {
	all := stoppers
	if os.Getenv(envMatrix) != "all" {
		all = all[:1]
	}
	for _, who := range all {
		t.Run(who.name, func(t *testing.T) { testStandsStill(t, who.victim) })
	}
}

// mereGateway has the client enter by a node that does not lead and is no egress.
func (m *mesh) mereGateway(r roles) *host {
	for _, n := range m.nodes {
		if n.Name != r.leader && n.Name != r.session.Egress {
			m.enterBy(n)
			return n
		}
	}
	return nil
}

// agentBesideEgress is an agent that neither leads nor is the gateway in use.
func (m *mesh) agentBesideEgress(r roles) *host {
	for _, slice := range r.session.Slices {
		n := m.node(slice.Agent)
		if slice.State != "up" || n.Name == r.session.Egress {
			continue
		}
		if n.Name == r.leader {
			n.try("operator", "raft", "transfer-leader", r.session.Egress)
		}
		if n.Name == r.gateway {
			m.enterBy(m.node(r.session.Egress))
		}
		return n
	}
	return nil
}

func testStandsStill(t *testing.T, victim func(*mesh, roles) *host) {
	m := newMesh(t, 4)
	m.watch("client")
	m.up()
	m.connectBusy("--slice-mode", "burst")
	flow, beside := m.echoes(m.client.Space, destination), m.echoes(m.client.Space, "198.51.100.1")
	time.Sleep(time.Second)
	r, err := m.rolesInUse()
	if err != nil {
		t.Fatal(err)
	}
	v := victim(m, r)
	if v == nil {
		t.Fatalf("no host has that role alone: %v", r)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for begin := time.Now(); time.Since(begin) < stopsFor; time.Sleep(runsFor) {
			v.process.Signal(syscall.SIGSTOP)
			time.Sleep(standsFor)
			v.process.Signal(syscall.SIGCONT)
		}
	}()
	flow.forget()
	beside.forget()
	time.Sleep(settleStops)
	first := flow.sofar()
	flow.forget()
	beside.forget()
	egresses := m.egressesUntil(stopped)
	rest, undisturbed := flow.end(), beside.end()
	t.Logf("%s stands still (%v): at first %v; then %v; beside it %v; egress %s", v.Name, r, first, rest, undisturbed, strings.Join(egresses, ", "))
	if rest.loss() > undisturbed.loss()+0.02 || rest.longest > undisturbed.longest+500*time.Millisecond {
		t.Errorf("after %v: %v; beside it %v", settleStops, rest, undisturbed)
	}
	if len(egresses) != 1 || egresses[0] == v.Name {
		t.Errorf("the egress was %s", strings.Join(egresses, ", then "))
	}
	if used := m.gateway(); used == v.Name {
		t.Errorf("the client uses the gateway %s again", used)
	}
	if s, err := m.session(); err != nil {
		t.Error(err)
	} else {
		for _, slice := range s.Slices {
			if slice.Agent == v.Name && slice.State == "up" {
				t.Errorf("slice %d is on %s", slice.Number, v.Name)
			}
		}
	}
}

// egressesUntil is who was egress of the session, in order, until something ends.
func (m *mesh) egressesUntil(ended chan struct{}) (names []string) {
	m.Helper()
	for {
		if s, err := m.session(); err == nil && (len(names) == 0 || names[len(names)-1] != s.Egress) {
			names = append(names, s.Egress)
		}
		select {
		case <-ended:
			return names
		case <-time.After(200 * time.Millisecond):
		}
	}
}
