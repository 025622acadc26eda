//go:build e2e

package netns

import (
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// Limits of the issue: what a partition among the nodes may cost.
const (
	cutStall  = 2 * time.Second // at each edge
	twoOwners = time.Second
	partPace  = 50 // Mbit/s of each transfer
)

// cut is what no longer passes between one host and the other nodes, on both
// networks. Clients and the destination still reach the host, and it them: nobody
// but the nodes can tell that something is wrong.
type cut struct {
	name      string
	from, to  bool // what the host sends to others, and what they send to it
	of        func(*mesh, roles) string
	long      time.Duration // in make e2e
	healed    time.Duration // within which all is settled
	longFirst bool          // not in make test
}

var cuts = []cut{
	{name: "egress isolated", from: true, to: true, of: egressAndGateway, long: 60 * time.Second},
	{name: "egress is not heard", from: true, of: egressAndGateway, long: 20 * time.Second, longFirst: true},
	{name: "egress does not hear", to: true, of: egressAndGateway, long: 20 * time.Second, longFirst: true},
	{name: "leader is not heard", from: true, of: leaderOf, long: 20 * time.Second, longFirst: true},
	{name: "leader does not hear", to: true, of: leaderOf, long: 20 * time.Second, longFirst: true},
}

// leaderOf is the leader, by which the client enters: nobody else tells it that the
// gateway it is answered by is cut off.
func leaderOf(m *mesh, r roles) string {
	m.Helper()
	if r.gateway != r.leader {
		m.enterBy(m.node(r.leader))
	}
	return r.leader
}

// egressAndGateway is the session's egress, by which the client enters too.
func egressAndGateway(m *mesh, r roles) string {
	m.Helper()
	if r.gateway != r.session.Egress {
		m.enterBy(m.node(r.session.Egress))
	}
	return r.session.Egress
}

// strike cuts a host from the other nodes.
func (c cut) strike(m *mesh, h *host) {
	m.Helper()
	var others []string
	for _, n := range m.nodes {
		if n != h {
			others = append(others, n.Name)
		}
	}
	for _, s := range []*lab.Space{m.wan, m.lan} {
		s.Sh("nft add table bridge cut; nft 'add chain bridge cut forward { type filter hook forward priority 0; }'")
		if c.from {
			s.Sh("nft 'add rule bridge cut forward iifname %s oifname { %s } drop'", h.Name, strings.Join(others, ", "))
		}
		if c.to {
			s.Sh("nft 'add rule bridge cut forward oifname %s iifname { %s } drop'", h.Name, strings.Join(others, ", "))
		}
	}
}

func (m *mesh) heal() {
	m.wan.Sh("nft delete table bridge cut")
	m.lan.Sh("nft delete table bridge cut")
}

// owners watches on which nodes the inside addresses are.
type owners struct {
	stop  chan struct{}
	group sync.WaitGroup

	mu      sync.Mutex // protects the fields below
	at      map[string]string
	since   map[string]time.Time // when an address was last alone at a node
	longest time.Duration        // that one address was at two
	moves   []string
}

func (m *mesh) watchOwners() *owners {
	o := &owners{stop: make(chan struct{}), at: map[string]string{}, since: map[string]time.Time{}}
	begin := time.Now()
	o.group.Go(func() {
		for {
			o.look(m.owned(), time.Since(begin))
			select {
			case <-o.stop:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	m.Cleanup(o.end)
	return o
}

// owned is who has each inside address on its TUN just now.
func (m *mesh) owned() map[string][]string {
	owned := map[string][]string{}
	for _, n := range m.nodes {
		// A node without a TUN has none.
		_ = n.Do(func() error {
			device, err := net.InterfaceByName("mesh0")
			if err != nil {
				return err
			}
			addresses, err := device.Addrs()
			for _, a := range addresses {
				if text := a.String(); strings.HasPrefix(text, "10.20.0.2") && strings.HasSuffix(text, "/32") {
					owned[text] = append(owned[text], n.Name)
				}
			}
			return err
		})
	}
	return owned
}

func (o *owners) look(owned map[string][]string, at time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, address := range slices.Sorted(maps.Keys(owned)) {
		names := strings.Join(owned[address], "+")
		if names == o.at[address] {
			if len(owned[address]) > 1 {
				o.longest = max(o.longest, time.Since(o.since[address]))
			}
			continue
		}
		o.at[address], o.since[address] = names, time.Now()
		o.moves = append(o.moves, fmt.Sprintf("%.2fs %s at %s", at.Seconds(), address, names))
	}
}

func (o *owners) end() {
	select {
	case <-o.stop:
	default:
		close(o.stop)
	}
	o.group.Wait()
}

// told is the longest time with two owners, and all moves, since the last call.
func (o *owners) told() (two time.Duration, moves []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	two, moves = o.longest, o.moves
	o.longest, o.moves = 0, nil
	return two, moves
}

// TestPartition: a host that hears no other node, or is heard by none, costs a
// short stall when it begins and when it ends, no connection and no session.
func TestPartition(t *testing.T) {
	all := os.Getenv(envMatrix) == "all"
	m := newMesh(t, 4)
	m.watch("client")
	m.up()
	m.connect("--slice-mode", "burst")
	first := m.slices(3)
	for _, c := range cuts {
		if c.longFirst && !all {
			continue
		}
		lasts := 6 * time.Second
		if all {
			lasts = c.long
		}
		if err := lab.Again(t, func() error { return m.partition(c, lasts) }); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if last := m.slices(1); last.ID != first.ID {
		t.Errorf("the session did not survive: %s, then %s", first.ID, last.ID)
	}
}

// partition is one cut and its end, under a transfer each way.
func (m *mesh) partition(c cut, lasts time.Duration) error {
	m.Helper()
	m.slices(3)
	down, up := m.transfer(lab.Plan{Down: true, Pace: partPace}), m.transfer(lab.Plan{Pace: partPace})
	m.flowing(down, up)
	var r roles
	m.Until("who does what", 20*time.Second, func() (err error) { r, err = m.rolesInUse(); return err })
	h := m.node(c.of(m, r))
	m.flowing(down, up)
	m.Until("who does what", 20*time.Second, func() (err error) { r, err = m.rolesInUse(); return err })
	cost, owners := m.quiet(), m.watchOwners()
	defer owners.end()
	var errs []error
	for _, edge := range []struct {
		name  string
		turn  func()
		lasts time.Duration
	}{{"begins", func() { c.strike(m, h) }, lasts}, {"ends", m.heal, 5 * time.Second}} {
		down.Forget()
		up.Forget()
		cost.Forget()
		edge.turn()
		time.Sleep(edge.lasts)
		beside := cost.Stall()
		two, moves := owners.told()
		m.t.Logf("%s of %s %s (%v): stall down %v, up %v, of the flow beside %v; two owners for %v: %s", c.name, h.Name, edge.name, r,
			down.Stall().Round(time.Millisecond), up.Stall().Round(time.Millisecond), beside.Round(time.Millisecond),
			two.Round(time.Millisecond), strings.Join(moves, ", "))
		errs = append(errs,
			lab.InTime("stall when the cut "+edge.name, max(down.Stall(), up.Stall()), beside, cutStall),
			lab.InTime("two owners when the cut "+edge.name, two, beside, twoOwners))
	}
	for _, way := range []*lab.Transfer{down, up} {
		report := way.Finish(within(20 * time.Second))
		errs = append(errs, report.Check())
	}
	m.ready(len(m.nodes))
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
