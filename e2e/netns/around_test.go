//go:build e2e

package netns

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// rogue is a network beside the client whose owner wants what is meant for the
// tunnel: a host there has the destination's address, and gives out routes and
// addresses as it likes.
func (m *mesh) rogue() *lab.Space {
	m.Helper()
	r := m.Space("rogue")
	m.Wire(m.client.Space, "lan0", r, "in")
	r.Sh("ip address add %s/25 dev in; ip address add 203.0.113.9/25 dev in", destination)
	return r
}

// leads holds by which device the client's packets to an address leave.
func (m *mesh) leads(to, device string) {
	m.Helper()
	if r := m.client.Try(nil, "ip", "route", "get", to); !strings.Contains(r.Out, "dev "+device+" ") {
		m.t.Errorf("to %s: %s%s, want %s", to, r.Out, r.Stderr, device)
	}
}

// warned counts the client's warnings of hidden networks.
func (m *mesh) warned() int {
	m.Helper()
	text, err := os.ReadFile(m.client.process.Log)
	if err != nil {
		m.Fatalf("%v", err)
	}
	return strings.Count(string(text), "hides a local network")
}

// local is the line of client status about a local network.
func (m *mesh) local(network string) (line string) {
	m.Helper()
	r := m.client.try("status", "--client", "--run-dir", m.File("client", "run"))
	for line := range strings.Lines(r.Out) {
		if strings.HasPrefix(line, "Local") && strings.Contains(line, network) {
			return line
		}
	}
	m.t.Errorf("status has no line of %s: exit %d, %s%s", network, r.Code, r.Out, r.Stderr)
	return ""
}

// TestRogueLocalNetworks: neither routes that a network gives out (DHCP option
// 121, attack 49) nor addresses (attack 50), before or while the client is
// connected, take what is meant for the tunnel; the router sees none of it. Each
// hidden network is named once, and what excepts it does; a public one nothing
// does. Bridges of the host itself are kept.
func TestRogueLocalNetworks(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 1)
	m.initMore = []string{"--push", "10.20.0.0/24,203.0.113.0/24"}
	m.watch("client")
	m.found()
	rogue := m.rogue()
	m.client.Sh("ip route add %s/32 via 198.51.100.1", destination) // attack 49, before
	m.client.Sh("ip address add 10.20.0.77/25 dev lan0")            // attack 50
	m.client.Sh(`ip link add br0 type bridge; ip link add v0 type veth peer name v1; ip link set v0 master br0 up
		ip link set v1 up; ip link set br0 up; ip address add 10.20.0.193/26 dev br0`)
	m.admit()
	m.client.start("connect", "--run-dir", m.File("client", "run"), "--profile", m.profile, "--password-file", m.passwordFile())
	m.Until("a connection beside a rogue network", 20*time.Second, m.reach)
	m.client.Sh("ip route replace 10.20.0.0/26 via 198.51.100.1; ip route add 10.20.0.64/26 via 198.51.100.1") // and after
	m.client.Sh("ip address add 203.0.113.5/25 dev lan0")
	m.Until("a warning of the public network", 5*time.Second, func() error { return m.warnedOf("203.0.113.0/25") })
	if err := m.reach(); err != nil {
		t.Error(err)
	}
	m.leads("203.0.113.9", "mesh0")
	m.leads("10.20.0.200", "br0")
	for network, words := range map[string]string{
		"10.20.0.0/25": "hidden by 10.20.0.0/24: meshcrypt connect --except 10.20.0.0/25, or local = true", "203.0.113.0/25": "nothing excepts",
		"10.20.0.192/26": "kept, it is of this host",
	} {
		if line := m.local(network); !strings.Contains(line, words) {
			t.Errorf("status says %q, not %q", line, words)
		}
	}
	m.nodes[0].process.Kill() // the session is resumed
	m.nodes[0].start("run")
	m.Until("a connection after the mesh's restart", 30*time.Second, m.reach)
	if n := m.warned(); n != 2 {
		t.Errorf("%d warnings of 2 hidden networks", n)
	}
	m.leads("10.20.0.200", "br0")
	m.excepts(rogue)
}

func (m *mesh) warnedOf(network string) error {
	text, err := os.ReadFile(m.client.process.Log)
	if err == nil && !strings.Contains(string(text), "local="+network) {
		err = os.ErrNotExist
	}
	return err
}

// excepts: what the user keeps out of the tunnel leaves by its own way, and
// nothing else does.
func (m *mesh) excepts(rogue *lab.Space) {
	m.Helper()
	m.client.Sh("ip route del %s/32; ip route del 10.20.0.0/26; ip route del 10.20.0.64/26", destination)
	run := []string{"connect", "--run-dir", m.File("client", "run"), "--user", user, "--password-file", m.passwordFile(), "--profile"}
	for _, public := range []string{"203.0.113.0/25", "0.0.0.0/0"} {
		if r := m.client.try(append(run, m.profile, "--except", public)...); r.Code != control.CodeUsage || !strings.Contains(r.Stderr, "private range") {
			m.t.Errorf("--except %s: exit %d, %s", public, r.Code, r.Stderr)
		}
	}
	text, err := os.ReadFile(m.profile)
	if err != nil {
		m.Fatalf("%v", err)
	}
	local := m.Write("local = true\n"+string(text), "local.toml")
	for how, args := range map[string][]string{"--except": {m.profile, "--except", "10.20.0.0/25"}, "local = true": {local}} {
		if !m.client.process.Terminate(10 * time.Second) {
			m.Fatalf("the client did not end")
		}
		m.client.start(append(run, args...)...)
		m.Until("a session with "+how, 20*time.Second, func() error {
			if r := m.client.Try(nil, "ip", "route", "get", "203.0.113.9"); !strings.Contains(r.Out, "dev mesh0") {
				return fmt.Errorf("%s%s", r.Out, r.Stderr)
			}
			return m.Reach(m.client.Space, rogue, destination)
		})
		m.leads(destination, "lan0")
		m.leads("10.20.0.130", "mesh0") // beside the exception
		m.leads("203.0.113.9", "mesh0")
		if line := m.local("10.20.0.0/25"); !strings.Contains(line, "excepted from 10.20.0.0/24") {
			m.t.Errorf("with %s status says %q", how, line)
		}
	}
}
