//go:build e2e

package netns

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// TestSealedHandOn: by init's word, what nodes hand on to each other crosses the
// inside network sealed, in both directions, and an agent that was killed gets new
// keys when it is back. In clear the same capture shows the canary.
func TestSealedHandOn(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"clear", "sealed"} {
		t.Run(kind, func(t *testing.T) {
			m := newMesh(t, 3).masquerade() // so that agents hand on upwards too
			m.initMore = append(m.initMore, "--hand-on", kind)
			m.up()
			m.connect("--slice-mode", "burst")
			s := m.slices(2)
			agent := m.node(handedOnTo(s))
			end := m.captureOn(m.lan, agent.Name, "udp port 6486")
			// Long enough for slices that are measured before they carry anything.
			for _, down := range []bool{true, false} {
				if err := m.transfer(lab.Plan{Bytes: 60_000_000, Down: down}).Wait(within(30 * time.Second)).Check(); err != nil {
					t.Error(err)
				}
			}
			raw, err := os.ReadFile(end())
			if err != nil {
				t.Fatal(err)
			}
			canaries := bytes.Count(raw, []byte(lab.Canary))
			t.Logf("%s, egress %s, agent %s: %d bytes between them, the canary %d times", kind, s.Egress, agent.Name, len(raw), canaries)
			switch {
			case len(raw) < 2_000_000:
				t.Error("too little was handed on to prove anything")
			case kind == "clear" && canaries < 100:
				t.Error("the capture would not show cleartext")
			case kind == "sealed" && canaries != 0:
				t.Error("cleartext between nodes")
			}
			if kind == "sealed" {
				m.comesBack(agent)
			}
		})
	}
	if os.Getenv(envMatrix) == "all" {
		t.Run("strangers come", testStrangersCome)
	}
}

// handedOnTo is an agent of a session that is not its egress.
func handedOnTo(s control.Session) string {
	for _, slice := range s.Slices {
		if slice.Agent != s.Egress {
			return slice.Agent
		}
	}
	return s.Egress
}

// comesBack kills an agent and starts it again: its boot is another one, so whatever
// was agreed with it before is void.
func (m *mesh) comesBack(agent *host) {
	m.Helper()
	agent.process.Kill()
	agent.start("run")
	m.Until("the slice is carried again", 30*time.Second, func() error {
		s, err := m.session()
		if err != nil {
			return err
		}
		for _, slice := range s.Slices {
			if slice.State != "up" {
				return fmt.Errorf("slice %d is %s", slice.Number, slice.State)
			}
		}
		return nil
	})
	if err := m.transfer(lab.Plan{Bytes: 3_000_000, Down: true}).Wait(within(30 * time.Second)).Check(); err != nil {
		m.t.Error(err)
	}
}

// testStrangersCome: a public address on the inside interface of one node, while all
// run, has the whole mesh seal what its nodes hand on, and traffic goes on.
func testStrangersCome(t *testing.T) {
	m := newMesh(t, 3).masquerade()
	m.up()
	m.connect("--slice-mode", "burst")
	s := m.slices(2)
	agent := m.node(handedOnTo(s))
	canaries := func() int {
		end := m.captureOn(m.lan, agent.Name, "udp port 6486")
		for _, down := range []bool{true, false} {
			if err := m.transfer(lab.Plan{Bytes: 30_000_000, Down: down}).Wait(within(30 * time.Second)).Check(); err != nil {
				t.Error(err)
			}
		}
		raw, err := os.ReadFile(end())
		if err != nil || len(raw) < 1_000_000 {
			t.Fatalf("%d bytes were handed on: too few to prove anything (%v)", len(raw), err)
		}
		return bytes.Count(raw, []byte(lab.Canary))
	}
	if n := canaries(); n < 100 {
		t.Fatalf("before: the capture would not show cleartext: %d", n)
	}
	flow := m.echoes(m.client.Space, destination)
	m.node(s.Egress).Sh("ip address add 203.0.113.9/24 dev in")
	time.Sleep(5 * time.Second)
	t.Logf("while it became sealed: %v", flow.end())
	if n := canaries(); n != 0 {
		t.Errorf("after: cleartext between nodes, %d times", n)
	}
	for _, n := range m.nodes {
		if status, err := n.status(); err != nil || status.Health != "ok" {
			t.Errorf("%s: %s %q (%v)", n.Name, status.Health, status.Problems, err)
		}
	}
}
