package arbiter

import (
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// TestConditionIsPassedOn to the others, bounded (I10), and ends with the fault.
func TestConditionIsPassedOn(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", registry.RoleAgent)
	for name, c := range map[string]struct {
		said *protocol.Condition
		want string
	}{
		"broken":             {&protocol.Condition{Is: protocol.Broken, Faults: []string{"a", "b"}}, "a; b"},
		"broken, no reason":  {&protocol.Condition{Is: protocol.Broken}, "it does not say why"},
		"of a later build":   {&protocol.Condition{Is: "worse"}, "it does not say why"},
		"longer than a line": {&protocol.Condition{Is: protocol.Broken, Faults: []string{strings.Repeat("x", 2*MaxFault)}}, strings.Repeat("x", MaxFault)},
		"mended":             {&protocol.Condition{Is: protocol.Mended, Faults: []string{"a"}}, ""},
		"whole":              {&protocol.Condition{Is: protocol.Whole}, ""},
	} {
		n.fault = "before"
		nodeSaid{n, &protocol.Node{Condition: c.said}}.apply(a)
		if n.fault != c.want {
			t.Errorf("%s: passed on as %q", name, n.fault)
		}
	}
}

// TestKeepIsSaidToTheSecond, and to nobody else.
func TestKeepIsSaidToTheSecond(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	second, other := f.member(a, "n2", registry.RoleAgent), f.member(a, "n3", registry.RoleAgent)
	for _, n := range []*nodeStream{second, other} {
		for n.Waiting() > 0 {
			n.Take()
		}
	}
	part := a.cluster.Pool[0]
	a.do([]session.Action{session.KeepPart{Node: second.node, Part: part}})
	if second.Waiting() != 1 || other.Waiting() != 0 {
		t.Fatalf("%d and %d messages", second.Waiting(), other.Waiting())
	}
	if m := second.Take(); m.View == nil || m.View.Full || len(m.View.Keep) != 1 || m.View.Keep[0] != part {
		t.Errorf("said %+v", m)
	}
}

// TestAssures: who asks whether there is an arbiter hears so, with what was asked.
func TestAssures(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	n := f.member(a, "n2", registry.RoleAgent)
	for n.Take() != nil {
	}
	nodeSaid{n, &protocol.Node{Assure: &protocol.Assure{Number: 7}}}.apply(a)
	if n.Waiting() != 1 {
		t.Fatalf("%d messages", n.Waiting())
	}
	if m := n.Take(); m.Assure == nil || m.Assure.Number != 7 {
		t.Errorf("said %+v", m)
	}
}
