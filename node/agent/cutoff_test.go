package agent

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestCutOff: a client hears that nothing goes on from here if this host does not forward
// and no node answers that it could hand on to, and only then.
func TestCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		faults  []string
		answers bool
		lost    bool
	}{
		"whole":                          {nil, true, false},
		"whole, and nobody answers":      {nil, false, false},
		"does not forward, but hands on": {[]string{"a filter"}, true, false},
		"its inside link is down":        {[]string{"eth1 is down"}, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t).ready()
			f.faults = c.faults
			for i := 0; i < 10; i++ {
				f.advance(TickEvery)
				for index := range f.probes.peers {
					f.answer(index, probe.TypeNode)
				}
			}
			for end := f.clock.Load() + int64(2*BrokenAfter); f.clock.Load() < end; {
				f.advance(TickEvery)
				for index := range f.probes.peers {
					if c.answers {
						f.answer(index, probe.TypeNode)
					}
				}
			}
			if got := f.probes.answerVerdict() == probe.PathLost; got != c.lost {
				t.Errorf("lost %v, %s, faults %v", got, f.sound.is, f.sound.faults)
			}
			if c.lost {
				f.faults = nil
				f.advance(MendedAfter + BrokenAfter)
				if f.sound.is != protocol.Broken && f.probes.answerVerdict() == probe.PathLost {
					t.Error("lost for ever")
				}
			}
		})
	}
}
