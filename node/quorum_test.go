package node

import (
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestThinMeshIsShown: a dead voter, and a mesh that has drained itself, are no health.
func TestThinMeshIsShown(t *testing.T) {
	const data = registry.RoleGateway | registry.RoleAgent
	up := func(name string, voter bool) protocol.NodeRow {
		return protocol.NodeRow{Name: name, Voter: voter, Up: true, May: data}
	}
	dead, idle := up("c", true), up("b", true)
	dead.Up, idle.Drained = false, true
	ready := up("d", false)
	ready.May |= registry.RoleVoter
	deadNode, deadIdle := up("d", false), idle
	deadNode.Up, deadIdle.Up = false, false
	for name, tc := range map[string]struct {
		rows []protocol.NodeRow
		want []string
	}{
		"whole":                 {[]protocol.NodeRow{up("a", true), up("b", true), up("c", true)}, nil},
		"one of three is dead":  {[]protocol.NodeRow{up("a", true), up("b", true), dead}, []string{"the voter c is silent: if one more dies nobody can log in"}},
		"one of five is dead":   {[]protocol.NodeRow{up("a", true), up("b", true), dead, up("d", true), up("e", true)}, []string{"one more may die"}},
		"another may vote":      {[]protocol.NodeRow{up("a", true), up("b", true), dead, ready}, []string{"or wait: d gets its vote once it was silent for 60 s"}},
		"one without a vote":    {[]protocol.NodeRow{up("a", true), deadNode}, nil},
		"one of two is drained": {[]protocol.NodeRow{up("a", true), idle}, nil},
		"all are drained":       {[]protocol.NodeRow{idle, idle}, []string{"every node is drained"}},
		"the other is silent":   {[]protocol.NodeRow{idle, deadNode}, []string{"every node is drained"}},
		"none came yet":         {[]protocol.NodeRow{deadNode}, nil},
	} {
		n := keyed(t)
		n.members.rows = tc.rows
		all := n.problems(agent.Report{Heard: true}, nil, 1)
		if len(all) != len(tc.want) {
			t.Errorf("%s: %q", name, all)
			continue
		}
		for i, want := range tc.want {
			if !strings.Contains(all[i], want) || !strings.Contains(all[i], ": meshcrypt ") {
				t.Errorf("%s: %q lacks %q, or the next command", name, all[i], want)
			}
		}
		if all := n.problems(agent.Report{}, nil, 1); len(all) != 1 {
			t.Errorf("%s: what an arbiter told that is heard no more is said: %q", name, all)
		}
	}
}
