package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// oneAgent is client, gateway, one agent that is its own egress.
func oneAgent(r *rig) { r.startMesh(1, []*lab.Space{r.gateway}, []*lab.Space{r.agent}) }

// twoAgents slices the stream over two agents behind the same gateway.
func twoAgents(r *rig) { r.startMesh(2, []*lab.Space{r.gateway}, []*lab.Space{r.agent, r.agent2}) }

// enteredNode has the agent on the node that the client enters by.
func enteredNode(r *rig) { r.startMesh(1, nil, []*lab.Space{r.agent}) }

// smallAgents is twoAgents, and smallAgent oneAgent, where an agent's host has
// so little CPU that it is what limits the stream.
func smallAgents(r *rig) { r.agentCPU = smallCPU; twoAgents(r) }

func smallAgent(r *rig) { r.agentCPU = smallCPU; oneAgent(r) }

// smallCPU is a small agent's part of one core.
const smallCPU = 0.2

// node is one daemon's place.
type node struct {
	*lab.Space
	rig *rig
	dir string
	n   int
}

func (r *rig) node(s *lab.Space) *node {
	n := 1 + slices.Index([]*lab.Space{r.gateway, r.agent, r.agent2, r.founder}, s)
	return &node{Space: s, rig: r, dir: r.File(s.Name, "data"), n: n}
}

func (n *node) command(args ...string) []string {
	return append([]string{n.rig.binary, "--data-dir", n.dir}, args...)
}

func (n *node) must(args ...string) string {
	n.rig.Helper()
	result := n.Try(nil, n.command(args...)...)
	if result.Code != 0 {
		n.rig.Fatalf("%s: meshcrypt %s: exit %d\n%s%s", n.Name, strings.Join(args, " "), result.Code, result.Out, result.Stderr)
	}
	return result.Out + result.Stderr
}

func (n *node) place() []string {
	return []string{"--name", n.Name, "--listen", fmt.Sprintf("192.0.2.%d:6484", n.n), "--inside-if", "in"}
}

var tokenForm = regexp.MustCompile(`mct1\.[A-Za-z0-9]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`)

// startMesh runs a founder that carries nothing, the gateways and the agents,
// and connects the client.
func (r *rig) startMesh(slices int, gateways, agents []*lab.Space) {
	founder := r.node(r.founder)
	founder.must(append([]string{"init", "--pool", "10.77.0.0/16", "--push", "10.20.0.0/24", "--inside-address", "10.20.0.201"}, founder.place()...)...)
	founder.Start(founder.Name, nil, founder.command("run")...)
	r.members(founder, 1)
	r.join(founder, "gateway", gateways)
	r.join(founder, "agent,gateway", agents)
	r.members(founder, 1+len(gateways)+len(agents))
	founder.must("drain")
	r.dest.Sh("ip route add 10.77.0.0/16 via 10.20.0.201")
	entries := gateways
	if len(entries) == 0 {
		entries = agents
	}
	r.connect(founder, entries)
	r.settled(founder, slices)
}

func (r *rig) join(founder *node, roles string, hosts []*lab.Space) {
	for _, s := range hosts {
		n := r.node(s)
		out := founder.must("token", "create", "--roles", roles)
		token := r.Write(tokenForm.FindString(out)+"\n", "token-"+s.Name)
		args := append([]string{"join", "192.0.2.4:6484", "--token-file", token, "--roles", roles}, n.place()...)
		small := r.agentCPU > 0 && s != r.gateway
		if small {
			args = append(args, "--capacity", fmt.Sprint(r.agentCPU))
		}
		if p := n.Start(n.Name, nil, n.command(args...)...); small {
			r.hold(p, r.agentCPU)
		}
	}
}

// members waits until so many are up.
func (r *rig) members(founder *node, count int) {
	r.Helper()
	r.Until(fmt.Sprintf("%d members up", count), 30*time.Second, func() error {
		var answer control.Members
		if err := founder.ask(&answer, "members"); err != nil {
			return err
		}
		up := 0
		for _, m := range answer.Members {
			if m.State == "up" {
				up++
			}
		}
		if up < count {
			return fmt.Errorf("%d are", up)
		}
		return nil
	})
}

func (n *node) ask(out any, args ...string) error {
	result := n.Try(nil, n.command(append(args, "-o", "json")...)...)
	if result.Code != 0 && result.Code != control.CodeDegraded {
		return fmt.Errorf("exit %d: %s", result.Code, result.Stderr)
	}
	return json.Unmarshal([]byte(result.Out), out)
}

var gatewayList = regexp.MustCompile(`(?m)^gateways *=.*$`)

// connect starts the client with a profile that knows only the entries wanted.
func (r *rig) connect(founder *node, entries []*lab.Space) {
	r.Helper()
	password := r.Write("only for this measurement\n", "password")
	founder.must("client", "add", "perf", "--password-file", password)
	var list []string
	for _, s := range entries {
		list = append(list, fmt.Sprintf("%q", fmt.Sprintf("192.0.2.%d:6484", r.node(s).n)))
	}
	profile := gatewayList.ReplaceAllString(founder.must("client", "profile", "perf"), "gateways = ["+strings.Join(list, ", ")+"]")
	client := &node{Space: r.client, rig: r, dir: r.File(r.client.Name, "data")}
	client.Start(client.Name, nil, client.command("connect", "--profile", r.Write(profile, "profile.toml"),
		"--user", "perf", "--password-file", password, "--run-dir", r.File(r.client.Name, "run"))...)
	r.Until("the client is connected", 20*time.Second, func() error { return r.Reach(r.client, r.dest, destAddress) })
}

// settled checks that the mesh is what the line says.
func (r *rig) settled(founder *node, slices int) {
	r.Helper()
	r.Until(fmt.Sprintf("%d slices up", slices), 20*time.Second, func() error {
		var answer control.Sessions
		if err := founder.ask(&answer, "sessions"); err != nil {
			return err
		}
		up := 0
		for _, s := range answer.Sessions {
			for _, slice := range s.Slices {
				if slice.State == "up" {
					up++
				}
			}
		}
		if up < slices {
			return fmt.Errorf("%d up: %+v", up, answer.Sessions)
		}
		r.Logf("sessions: %+v", answer.Sessions)
		return nil
	})
}
