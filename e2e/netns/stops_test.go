//go:build e2e

package netns

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// A process that stands still for 900 ms of each second, for 20 s in all: it is
// never silent for long, and whatever goes by it is late or lost. Within settleStops
// everybody is to have left it.
const (
	standsFor   = 900 * time.Millisecond
	runsFor     = 100 * time.Millisecond
	stopsFor    = 20 * time.Second
	settleStops = 6 * time.Second
)

// stopper is who stands still.
type stopper struct {
	name   string
	victim func(*mesh, roles) *host
	grows  []time.Duration // shorter stops, each for growsEvery, before the long ones
	leaves bool            // the client says that it leaves it as gateway
}

// growsEvery is how long stops of one length go on.
const growsEvery = 2 * time.Second

// stoppers begin with the one that every run plays. A gateway's stops grow: each late
// answer makes the next silence seem shorter, so that on most machines no stop is a
// silence to the client, and the count of stops alone can tell it. On a quick one the
// silence may come first.
var stoppers = []stopper{
	{"gateway", (*mesh).mereGateway, []time.Duration{
		200 * time.Millisecond, 300 * time.Millisecond, 450 * time.Millisecond, 650 * time.Millisecond,
	}, true},
	{"egress", func(m *mesh, r roles) *host { return m.node(r.session.Egress) }, nil, false},
	{"agent", (*mesh).agentBesideEgress, nil, false},
}

// stops is for how long it stands still the next time, so long after the beginning.
func (s stopper) stops(since time.Duration) time.Duration {
	if stage := int(since / growsEvery); stage < len(s.grows) {
		return s.grows[stage]
	}
	return standsFor
}

// settled is when everybody is to have left it.
func (s stopper) settled() time.Duration {
	return max(settleStops, time.Duration(len(s.grows))*growsEvery)
}

// TestStandsStill: the client leaves a gateway and stays away; the second takes an
// egress's part and keeps it; an agent's slice is placed elsewhere and stays there.
func TestStandsStill(t *testing.T) {
	all := stoppers
	if os.Getenv(envMatrix) != "all" {
		all = all[:1]
	}
	for _, who := range all {
		t.Run(who.name, func(t *testing.T) {
			unspoiled(t, func(t *testing.T) { testStandsStill(t, who) })
		})
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

func testStandsStill(t *testing.T, who stopper) {
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
	v := who.victim(m, r)
	if v == nil {
		t.Fatalf("no host has that role alone: %v", r)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for begin := time.Now(); time.Since(begin) < stopsFor; time.Sleep(runsFor) {
			v.process.Signal(syscall.SIGSTOP)
			time.Sleep(who.stops(time.Since(begin)))
			v.process.Signal(syscall.SIGCONT)
		}
	}()
	flow.forget()
	beside.forget()
	time.Sleep(who.settled())
	first, firstBeside := flow.sofar(), beside.sofar()
	flow.forget()
	beside.forget()
	egresses := m.egressesUntil(stopped)
	rest, undisturbed := flow.end(), beside.end()
	left := regexp.MustCompile(`"gateway (stands still again and again|is silent|is cut off from other nodes)" gateway=` + regexp.QuoteMeta(v.outer+":6484 "))
	if said := m.client.process.Tail(1000); who.leaves && !left.MatchString(said) {
		// A pause of the machine is a silence like any other, and a node that goes on after one
		// may say that it hears no other yet.
		m.want(lab.Late{What: "the client does not say that it leaves the gateway", Beside: firstBeside.longest})
	}
	t.Logf("%s stands still (%v): at first %v; then %v; beside it %v; egress %s", v.Name, r, first, rest, undisturbed, strings.Join(egresses, ", "))
	if rest.loss() > undisturbed.loss()+0.02 || rest.longest > undisturbed.longest+500*time.Millisecond {
		t.Errorf("after %v: %v; beside it %v", who.settled(), rest, undisturbed)
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
