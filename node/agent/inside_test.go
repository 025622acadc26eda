package agent

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestStrangersCome: an inside interface that strangers begin to reach takes nothing
// in clear from then on, whether an arbiter is there to tell the mesh or not, and every
// arbiter hears of it.
func TestStrangersCome(t *testing.T) {
	f := newFixture(t)
	stream := f.obey(5)
	f.hear(&protocol.Node{View: f.ruled()})
	told := func(want ...bool) {
		t.Helper()
		all := saying(f, func(m *protocol.Node) *protocol.Inside { return m.Inside })
		if len(all) != len(want) {
			t.Fatalf("told %d times, want %v", len(all), want)
		}
		for i := range want {
			if all[i].Exposed != want[i] {
				t.Errorf("told %v, want %v", all[i].Exposed, want)
			}
		}
	}
	sealed := func(want bool, when string) {
		t.Helper()
		if got := f.Agent.engineTable().Sealed; got != want {
			t.Errorf("%s: sealed is %v", when, got)
		}
	}
	told()
	sealed(false, "nobody there")
	f.do(exposure(true))
	f.do(exposure(true))
	told(true)
	sealed(true, "strangers came")
	f.do(streamLost{stream})
	f.do(exposure(false))
	told()
	sealed(false, "strangers went")
	f.do(exposure(true))
	sealed(true, "headless")
	f.said = nil
	f.obey(5)
	hello := saying(f, func(m *protocol.Node) *protocol.NodeHello { return m.Hello })
	if len(hello) != 1 || !hello[0].Exposed {
		t.Errorf("a new stream begins with %+v", hello)
	}
	older := f.view(3)
	older.Policy = &registry.Policy{Headless: 900}
	f.hear(&protocol.Node{View: older})
	sealed(false, "an arbiter that has no word for it, so nobody would seal")
}
