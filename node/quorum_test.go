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

// TestWrongClockIsNoSilence: a voter whose clock keeps its streams from opening needs that
// set, and no successor; and it is missing like one that is silent.
func TestWrongClockIsNoSilence(t *testing.T) {
	rows := []protocol.NodeRow{{Name: "a", Voter: true, Up: true}, {Name: "b", Voter: true, Up: true}, {Name: "c", Voter: true, Clock: 3600}}
	all := thin(rows)
	if len(all) != 1 || !strings.HasPrefix(all[0], "the voter c takes no part, for its clock is wrong: if one more dies nobody can log in; set the clock there") {
		t.Errorf("%q", all)
	}
	rows[1].Up = false
	if all := strings.Join(thin(rows), "\n"); strings.Contains(all, "the voter c is silent") || !strings.Contains(all, "the voter b is silent: if one more dies") {
		t.Errorf("%q", all)
	}
}

// TestNewVoterSaysWhatItBecame: whoever reads its log finds no riddle on the way to a vote, and
// no failing disk or missing leader that there was not.
func TestNewVoterSaysWhatItBecame(t *testing.T) {
	t.Parallel()
	w := threeVoters(t)
	w.until("all three say that they vote", func() bool { return w.journal.count("this node votes, and may become the arbiter") == 3 })
	for _, line := range []string{"this node's log is well again", "this node's copy of the log lacks what others know of; it does not stand for arbiter before it has caught up"} {
		if n := w.journal.count(line); n != 0 {
			t.Errorf("%q %d times", line, n)
		}
	}
}
