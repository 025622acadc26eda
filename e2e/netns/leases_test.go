//go:build e2e

package netns

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// crowd is clients on one host, each a device of its own: without a TUN, so that they
// do not get into each other's way.
type crowd struct {
	*mesh
	profiles map[string]string // file by user
	devices  []*lab.Process
}

const (
	poolOfFew = "10.77.0.0/27"
	fewLeases = 15 // what clients may get of it
)

// all starts clients of ann in data directories of those numbers.
func (c *crowd) all(from, to int) {
	c.Helper()
	for n := from; n < to; n++ {
		c.devices = append(c.devices, c.start("ann", n))
	}
	for n := from; n < to; n++ {
		c.connected("ann", n, c.devices[n])
	}
}

// device starts a client of a user in a data directory of that number, and waits.
func (c *crowd) device(user string, n int, more ...string) *lab.Process {
	c.Helper()
	p := c.start(user, n, more...)
	c.connected(user, n, p)
	return p
}

func (c *crowd) start(user string, n int, more ...string) *lab.Process {
	c.Helper()
	return c.client.Start(fmt.Sprintf("%s-%d", user, n), c.client.environment(), c.connectArgs(user, n, more...)...)
}

func (c *crowd) connected(user string, n int, p *lab.Process) {
	c.Helper()
	c.Until(p.Log+" says that it is connected", 30*time.Second, func() error {
		text, err := os.ReadFile(p.Log)
		switch {
		case err != nil:
			return err
		case !p.Running():
			c.Fatalf("device %d of %s ended: %s", n, user, p.Tail(5))
		case !strings.Contains(string(text), "Connected as"):
			return fmt.Errorf("not connected: %s", p.Tail(3))
		}
		return nil
	})
}

func (c *crowd) connectArgs(user string, n int, more ...string) []string {
	return append([]string{c.binary, "--data-dir", c.File("devices", fmt.Sprintf("%s-%d", user, n)), "connect",
		"--run-dir", c.File("run", fmt.Sprintf("%s-%d", user, n)), "--profile", c.profiles[user],
		"--cert", c.File(user + ".crt"), "--key", c.File(user + ".key"), "--proxy", fmt.Sprintf("127.0.0.1:%d", 10_000+n)}, more...)
}

// turnedAway wants exit 5, the words and a next command.
func (c *crowd) turnedAway(user string, n int, words string) {
	c.Helper()
	r := c.client.Try(c.client.environment(), c.connectArgs(user, n)...)
	if r.Code != control.CodeDenied || !strings.Contains(r.Stderr, words) || !strings.Contains(r.Stderr, "next:") {
		c.Fatalf("device %d of %s: exit %d, want 5 and %q:\n%s", n, user, r.Code, words, r.Stderr)
	}
}

func (c *crowd) pool() control.PoolRow {
	c.Helper()
	p, err := ask[control.Policy](c.nodes[0], "policy", "show")
	if err != nil || len(p.Pool) != 1 {
		c.Fatalf("policy show: %+v, %v", p, err)
	}
	return p.Pool[0]
}

var leaseForm = regexp.MustCompile(`leases=\[?([0-9.]+)`)

// leaseOf is the address that a client says it has.
func (c *crowd) leaseOf(p *lab.Process) string {
	c.Helper()
	text, err := os.ReadFile(p.Log)
	found := leaseForm.FindAllStringSubmatch(string(text), -1)
	if err != nil || len(found) == 0 {
		c.Fatalf("%s names no lease: %v\n%s", p.Log, err, text)
	}
	return found[len(found)-1][1]
}

// TestOneAccountCannotEmptyThePool: sessions of one client are limited by policy; a
// device that crashes again and again has its address again and again; after a
// revocation the addresses are free as soon as the agents have said so, and those of an
// agent that cannot be asked are not.
func TestOneAccountCannotEmptyThePool(t *testing.T) {
	t.Parallel()
	m := newMeshOf(t, 2, plan{outside: ipv4, inside: ipv4, pool: poolOfFew})
	m.up()
	c := &crowd{mesh: m, profiles: map[string]string{}}
	for _, name := range []string{"ann", "bob"} {
		m.nodes[0].must("client", "add", name, "--cert", "--out", m.Dir)
		c.profiles[name] = m.Write(m.nodes[0].must("client", "profile", name), name+".toml")
	}
	c.all(0, 4)
	c.turnedAway("ann", 4, "ann has 4 sessions open, and may have 4 (policy sessions-per-client)")
	c.fill()
	for _, p := range c.devices {
		p.Kill()
	}
	c.crashLoop(attempts())
	c.revoke()
	c.deafAgent()
}

// attempts is how often a device crashes.
func attempts() int {
	if os.Getenv(envMatrix) == "all" {
		return 40
	}
	return 2
}

// fill has one account take the whole pool, as far as the operator lets it.
func (c *crowd) fill() {
	c.Helper()
	n1 := c.nodes[0]
	if r := n1.try("policy", "set", "sessions", "5"); r.Code != control.CodeUsage || !strings.Contains(r.Stderr, control.KeySessions) {
		c.t.Errorf("an unknown key: exit %d\n%s", r.Code, r.Stderr)
	}
	n1.must("policy", "set", control.KeySessions, "unlimited")
	c.all(4, fewLeases)
	c.turnedAway("bob", 100, fmt.Sprintf("the pool has no free address: %d are in sessions", fewLeases))
	s, err := n1.status()
	if err != nil || !strings.Contains(strings.Join(s.Problems, " "), "no address is free in pool part "+poolOfFew) {
		c.t.Errorf("status of the arbiter: %v, %v", s.Problems, err)
	}
}

// crashLoop kills a device as soon as it is connected, and starts it again.
func (c *crowd) crashLoop(times int) {
	c.Helper()
	lease := c.leaseOf(c.devices[7])
	for i := range times {
		p := c.device("ann", 7)
		p.Kill()
		if got := c.leaseOf(p); got != lease {
			c.Fatalf("start %d has %s, the first had %s", i, got, lease)
		}
	}
	c.t.Logf("%d crashes of one device in a full pool: %s each time", times, lease)
	if p := c.pool(); p.Open != fewLeases || p.Held != 0 {
		c.t.Errorf("pool after the crashes: %+v", p)
	}
}

// revoke frees the pool within seconds, where headless time is a day.
func (c *crowd) revoke() {
	c.Helper()
	if p := c.pool(); p.Free != 0 || p.Open != fewLeases {
		c.Fatalf("pool before: %+v", p)
	}
	c.nodes[0].must("client", "revoke", "ann")
	start := time.Now()
	c.Until("the agents have acknowledged", 30*time.Second, func() error {
		if p := c.pool(); p.Free != fewLeases {
			return fmt.Errorf("pool: %+v", p)
		}
		return nil
	})
	c.t.Logf("%d addresses free %v after the revocation", fewLeases, time.Since(start).Round(100*time.Millisecond))
	c.device("bob", 100, "--peer", c.nodes[0].Name)
}

// deafAgent holds the address of a session whose agent stands still.
func (c *crowd) deafAgent() {
	c.Helper()
	n1, n2 := c.nodes[0], c.nodes[1]
	c.device("bob", 101, "--peer", n2.Name)
	n2.process.Signal(syscall.SIGSTOP)
	defer n2.process.Signal(syscall.SIGCONT)
	all, err := ask[control.Sessions](n1, "sessions")
	if err != nil || len(all.Sessions) != 2 {
		c.Fatalf("sessions: %+v, %v", all, err)
	}
	for _, s := range all.Sessions {
		n1.must("sessions", "kick", s.ID)
	}
	c.Until("the session of the agent that answers has freed its address", 30*time.Second, func() error {
		if p := c.pool(); p.Open != 0 || p.Held > 1 {
			return fmt.Errorf("pool: %+v", p)
		}
		return nil
	})
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(time.Second) {
		if p := c.pool(); p.Held != 1 || p.Until < time.Hour {
			c.Fatalf("the agent stands still, and its address is free: %+v", p)
		}
	}
	n2.process.Signal(syscall.SIGCONT)
	c.Until("the agent that goes on has answered", 30*time.Second, func() error {
		if p := c.pool(); p.Held != 0 {
			return fmt.Errorf("pool: %+v", p)
		}
		return nil
	})
}

// TestCrashLoopOfNewDevices: a client without a lasting data directory is a new device
// at each start. Once its account has as many sessions as it may, the one that was
// silent longest gives way to the next start, which is told for how long it waits. A
// device that lives keeps its session, and one more beside those that live is refused.
func TestCrashLoopOfNewDevices(t *testing.T) {
	t.Parallel()
	m := newMeshOf(t, 2, plan{outside: ipv4, inside: ipv4, pool: poolOfFew})
	m.up()
	c := &crowd{mesh: m, profiles: map[string]string{}}
	m.nodes[0].must("client", "add", "ann", "--cert", "--out", m.Dir)
	c.profiles["ann"] = m.Write(m.nodes[0].must("client", "profile", "ann"), "ann.toml")
	living := c.device("ann", 0)
	for n := 1; n < 4; n++ {
		c.device("ann", n).Kill()
	}
	killed := time.Now()
	c.turnedAway("ann", 4, "gives way in")
	if os.Getenv(envMatrix) != "all" {
		return // the wait is a minute: `make e2e`
	}
	all := []*lab.Process{living}
	for n := 4; n < 7; n++ {
		all = append(all, c.persistent("ann", n))
		t.Logf("start %d is let in %v after the crash of the third", n+1, time.Since(killed).Round(time.Second))
	}
	if took := time.Since(killed); took > session.SilentAfter+giveWaySlack {
		t.Errorf("that took %v, a session gives way after %v", took, session.SilentAfter)
	}
	c.turnedAway("ann", 7, "ann has 4 sessions open, and may have 4 (policy sessions-per-client)\n")
	for _, p := range all {
		if !p.Running() {
			t.Errorf("a device that lives has ended: %s", p.Tail(5))
		}
	}
}

// giveWaySlack is for the reports of agents, a login, and a machine that does other work.
const giveWaySlack = 20 * time.Second

// persistent starts a device again until it is let in, as a supervisor would.
func (c *crowd) persistent(user string, n int) (p *lab.Process) {
	c.Helper()
	c.Until("device of "+user+" is let in", session.SilentAfter+giveWaySlack, func() error {
		if p == nil || !p.Running() {
			p = c.start(user, n)
		}
		if text, err := os.ReadFile(p.Log); err != nil || !strings.Contains(string(text), "Connected as") {
			return fmt.Errorf("not connected: %s, %v", p.Tail(3), err)
		}
		return nil
	})
	return p
}
