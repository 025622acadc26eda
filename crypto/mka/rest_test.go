package mka

import (
	"runtime"
	"testing"
)

// TestBytesOfAnAgent: an agent has a machine for each client at rest, of which it needs what
// the next rekey takes. Here each is of another process, which is some 50 bytes more.
func TestBytesOfAnAgent(t *testing.T) {
	const agents, most = 512, 330
	living := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var held [agents]*Agent
	before := living()
	for i := range held {
		s := newScene(t)
		s.established()
		s.agent.Settle()
		held[i] = s.agent
	}
	each := (living() - before) / agents
	t.Logf("%d bytes", each)
	if each > most {
		t.Errorf("%d bytes for an agent's side of a slice, at most %d", each, most)
	}
	runtime.KeepAlive(&held)
}
