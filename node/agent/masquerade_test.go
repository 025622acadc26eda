package agent

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestInsidePortWhereMasqueraded: a client reaches no node's inside port from this
// node's address.
func TestInsidePortWhereMasqueraded(t *testing.T) {
	for kind, want := range map[registry.EgressKind]uint16{registry.EgressMasquerade: inPort, registry.EgressRouted: 0} {
		f := newFixture(t)
		f.obey(5)
		v := f.view(3)
		v.Egress = kind
		f.hear(&protocol.Node{View: v})
		if got := f.engineTable().InsidePort; got != want {
			t.Errorf("%s: port %d, want %d", kind, got, want)
		}
	}
}

// TestSecondCopiesFlows: from the egress that it stands behind, in a mesh that
// masquerades, as long as it has not taken over.
func TestSecondCopiesFlows(t *testing.T) {
	masquerading := func(t *testing.T) *fixture {
		f := newFixture(t)
		f.obey(5)
		v := f.view(3)
		v.Egress = registry.EgressMasquerade
		v.Parts = []registry.Part{f.part(3, idOf(2), f.self())}
		f.hear(&protocol.Node{View: v})
		return f
	}
	t.Run("second", func(t *testing.T) {
		f := masquerading(t)
		if parts := f.behind[idOf(2)]; len(f.behind) != 1 || len(parts) != 1 || parts[0].Inside != moving() {
			t.Errorf("copies %+v", f.behind)
		}
		if f.host.hidden[parts24()] != moving() {
			t.Errorf("hides %v", f.host.hidden)
		}
	})
	t.Run("taken over, then confirmed", func(t *testing.T) {
		f := masquerading(t)
		f.pass(time.Second, 2, 3)
		f.pass((ProbeMisses+2)*TickEvery, 3)
		if len(f.behind) != 0 || !f.host.held[moving()] {
			t.Errorf("copies %+v after it took over", f.behind)
		}
		f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{f.part(4, f.self(), idOf(3))}}})
		if len(f.behind) != 0 {
			t.Errorf("the egress copies %+v", f.behind)
		}
	})
	t.Run("routed", func(t *testing.T) {
		f := newFixture(t).second()
		if f.behind != nil || f.host.hidden != nil {
			t.Errorf("copies %+v, hides %v", f.behind, f.host.hidden)
		}
	})
	t.Run("no moving address", func(t *testing.T) {
		f := masquerading(t)
		part := f.part(4, idOf(2), f.self())
		part.Inside = netip.Addr{}
		f.hear(&protocol.Node{View: &protocol.View{Parts: []registry.Part{part}}})
		if len(f.behind) != 0 {
			t.Errorf("copies %+v", f.behind)
		}
	})
}

func parts24() netip.Prefix { return netip.MustParsePrefix("10.77.0.0/24") }

// TestFlowsGoToTheSecondOnly: an egress feeds nobody else, and nothing else.
func TestFlowsGoToTheSecondOnly(t *testing.T) {
	f := newFixture(t)
	f.obey(5)
	v := f.view(3)
	v.Egress = registry.EgressMasquerade
	v.Parts = []registry.Part{f.part(3, f.self(), idOf(2))}
	f.hear(&protocol.Node{View: v})
	for _, c := range []struct {
		name     string
		peer     identity.NodeID
		prefixes []netip.Prefix
		want     bool
	}{
		{"the second", idOf(2), []netip.Prefix{parts24()}, true},
		{"another member", idOf(3), []netip.Prefix{parts24()}, false},
		{"no prefix", idOf(2), nil, false},
		{"a prefix beside the pool", idOf(2), []netip.Prefix{parts24(), netip.MustParsePrefix("10.0.0.0/8")}, false},
	} {
		got := make(chan bool)
		go func() { got <- f.Feeds(context.Background(), c.peer, c.prefixes) }()
		f.do(<-f.events)
		if got := <-got; got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if f.Feeds(ctx, idOf(2), []netip.Prefix{parts24()}) {
		t.Error("feeds although the loop has ended")
	}
}

// TestAskedInVain: what nobody waits for any more is not done, for who asked may be
// reading what it writes.
func TestAskedInVain(t *testing.T) {
	f, ran := newFixture(t), false
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan bool)
	go func() { answer <- f.ask(ctx, func() { ran = true }) }()
	late := <-f.events
	cancel()
	if <-answer {
		t.Error("answered without the loop")
	}
	if f.do(late); ran {
		t.Error("done all the same")
	}
}
