//go:build e2e && mixed

package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// envOlder names programs of earlier builds, with the tag of program (`make mixed`).
const envOlder = "MESHCRYPT_E2E_OLDER"

// upgradeStall is what one node's upgrade may cost a transfer: that of an agent's death,
// for builds before this one have their own ways of ending.
const upgradeStall = 2 * time.Second

// eachOlder runs a test beside every earlier build.
func eachOlder(t *testing.T, test func(t *testing.T, older string)) {
	for _, older := range filepath.SplitList(os.Getenv(envOlder)) {
		t.Run(filepath.Base(older), func(t *testing.T) { test(t, older) })
	}
}

// TestOlderAmongNewer: a node of an earlier build joins a mesh of this one and carries
// sessions; it is not asked to keep a log that it cannot read, and named for that until
// it is upgraded. Clients of both builds log in, the older one's profile is today's.
func TestOlderAmongNewer(t *testing.T) {
	eachOlder(t, func(t *testing.T, older string) {
		m := newMesh(t, 3)
		m.parksSoon()
		m.watch("client")
		m.nodes[2].binary = older
		m.found()
		for i, n := range m.nodes[1:] {
			n.join(m.nodes[0])
			m.ready(i + 2)
		}
		m.connectBusy("--slice-mode", "burst")
		m.slices(1)
		m.Until("the older build is named", 20*time.Second, func() error {
			if r := m.nodes[0].try("status"); !strings.Contains(r.Out, "n3 is of an older build and cannot keep the log: upgrade it") {
				return errors.New(r.Out)
			}
			return nil
		})
		m.visit("fred", older)
		m.visit("gina", m.binary)
		m.carries("an older node among newer ones")
		m.oneRegistry()
		m.slices(1)
		time.Sleep(2 * parkAfter)
		if s, err := m.clientStatus(); err != nil || s.Parked {
			t.Errorf("parked %v, though an agent of the older build could not call it: %v", s.Parked, err)
		}
		if !m.nodes[2].process.Terminate(20 * time.Second) {
			t.Error("n3 does not end")
		}
		m.nodes[2].binary = m.binary
		m.nodes[2].start("run")
		m.threeVoters()
		m.carries("when all are upgraded")
		m.oneRegistry()
		m.parked()
	})
}

// TestRollingUpgrade: a mesh of an earlier build, its data directories and its client's
// profile, is replaced one node after the other under a transfer each way.
// Builds of before MESHCRYPT_OWN_LOAD give a session fewer agents while this machine is busy.
func TestRollingUpgrade(t *testing.T) {
	eachOlder(t, func(t *testing.T, older string) {
		m := newMesh(t, 3)
		m.watch("client")
		for _, h := range append(slices.Clone(m.nodes), m.client) {
			h.binary = older
		}
		m.up()
		m.connectBusy("--slice-mode", "burst")
		m.slices(1)
		m.visit("fred", older)
		m.visit("gina", m.binary)
		down, up := m.transfer(lab.Plan{Down: true, Pace: partPace}), m.transfer(lab.Plan{Pace: partPace})
		m.flowing(down, up)
		for i := range m.nodes {
			n := m.nodes[len(m.nodes)-1-i] // the founder last
			m.want(m.upgrade(n, down, up))
			m.visit(fmt.Sprintf("old%d", i), older)
			m.visit(fmt.Sprintf("new%d", i), m.binary)
			m.oneRegistry()
		}
		for _, way := range []*lab.Transfer{down, up} {
			if err := way.Finish(within(20 * time.Second)).Check(); err != nil {
				t.Error(err)
			}
		}
		if !m.client.process.Terminate(10 * time.Second) {
			t.Error("the client does not end")
		}
		m.client.binary = m.binary
		m.connectBusy()
		m.carries("after the upgrade of all")
		m.rollback(m.nodes[2], older)
	})
}

// rollback starts an earlier build on a voter's directory in which this one has written:
// it ends by name at the first command that it cannot read, and the others go on.
func (m *mesh) rollback(n *host, older string) {
	m.Helper()
	if !n.process.Terminate(20 * time.Second) {
		m.Fatalf("%s does not end", n.Name)
	}
	n.binary = older
	n.start("run")
	code, ended := n.process.Wait(30 * time.Second)
	if log, _ := os.ReadFile(n.process.Log); !ended || code == 0 || !strings.Contains(string(log), "newer") {
		m.t.Errorf("%s of an earlier build: ended %t, exit %d\n%s", n.Name, ended, code, n.process.Tail(8))
	}
	m.Logf("%s", n.process.Tail(4))
	m.carries("without who cannot read the log")
}

// upgrade ends a node as an operator does and starts it with this build.
func (m *mesh) upgrade(n *host, down, up *lab.Transfer) error {
	m.Helper()
	m.slices(1)
	cost := m.quiet()
	down.Forget()
	up.Forget()
	if !n.process.Terminate(20 * time.Second) {
		return fmt.Errorf("%s does not end", n.Name)
	}
	n.binary = m.binary
	n.start("run")
	m.ready(len(m.nodes))
	m.slices(1)
	m.Logf("upgrade of %s: stall down %v, up %v", n.Name, down.Stall(), up.Stall())
	return lab.InTime("stall at the upgrade of "+n.Name, max(down.Stall(), up.Stall()), cost.Stall(), upgradeStall)
}

// visit has a user connect with a program from a host of his own, reach the destination
// and leave.
func (m *mesh) visit(name, binary string) {
	m.Helper()
	var n *host
	for _, n = range m.nodes {
		if n.process.Running() {
			break
		}
	}
	n.must("client", "add", name, "--password-file", m.passwordFile())
	profile := m.Write(n.must("client", "profile", name), name+".toml")
	h := m.newClient("c"+name, m.plan.outside)
	h.binary = binary
	begin := time.Now()
	h.start("connect", "--run-dir", m.File(name, "run"), "--profile", profile, "--user", name, "--password-file", m.passwordFile())
	m.Until(name+" is connected", 20*time.Second, func() error {
		if !h.process.Running() {
			return fmt.Errorf("it ended: %s", h.process.Tail(5))
		}
		if r := h.Try(nil, "ip", "route", "get", destination); !strings.Contains(r.Out, "dev mesh0") {
			return errors.New(r.Out + r.Stderr)
		}
		return m.Reach(h.Space, m.dest, destination)
	})
	m.Logf("%s of %s is connected after %v", name, filepath.Base(binary), time.Since(begin).Round(time.Millisecond))
	if !h.process.Terminate(10 * time.Second) {
		m.t.Errorf("the client of %s does not end", name)
	}
}

// carries holds that a transfer each way comes through whole.
func (m *mesh) carries(when string) {
	m.Helper()
	for _, down := range []bool{true, false} {
		if err := m.transfer(lab.Plan{Bytes: 20 << 20, Down: down}).Wait(within(30 * time.Second)).Check(); err != nil {
			m.t.Errorf("%s, down %t: %v", when, down, err)
		}
	}
}

// oneRegistry holds that all nodes that run tell the same members, sessions and clients.
func (m *mesh) oneRegistry() {
	m.Helper()
	m.Until("all nodes tell the same", 20*time.Second, func() error {
		var first string
		for _, n := range m.nodes {
			if !n.process.Running() {
				continue
			}
			says, err := n.tells()
			switch {
			case err != nil:
				return err
			case first == "":
				first = says
			case says != first:
				return fmt.Errorf("%s says\n%s\nand another\n%s", n.Name, says, first)
			}
		}
		return nil
	})
}

// tells is what a node says of members and clients, but for what changes by itself.
func (h *host) tells() (string, error) {
	members, err := ask[control.Members](h, "members")
	if err != nil {
		return "", err
	}
	var all []string
	for _, m := range members.Members {
		all = append(all, fmt.Sprint(m.Name, m.State, m.Voter, m.Arbiter, m.Is))
	}
	slices.Sort(all)
	r := h.try("client", "list")
	if r.Code != 0 {
		return "", fmt.Errorf("%s: client list: exit %d: %s", h.Name, r.Code, r.Stderr)
	}
	return strings.Join(all, "\n") + "\n" + fmt.Sprint(len(strings.Split(r.Out, "\n"))), nil
}
