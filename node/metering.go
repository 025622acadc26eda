package node

import (
	"log/slog"
	"sync"

	"github.com/meshcrypt/meshcrypt/node/load"
)

// meter is this host's load for whoever asks; it is read more often than the
// kernel's figures change.
type meter struct {
	source   *load.Meter
	capacity uint32 // thousandths of a CPU

	mu   sync.Mutex // protects last
	last float64
}

// newMeter measures against what the operator offers; a host that cannot be
// measured counts as idle, and says so once.
func newMeter(offered uint32, log *slog.Logger) *meter {
	m := &meter{source: load.New(offered)}
	if measuresAlone() {
		m.source.Alone()
	}
	var err error
	if m.capacity, err = m.source.Capacity(); err != nil {
		log.Warn("this host's CPU cannot be measured; its load counts as 0", "error", err)
	}
	return m
}

// load is own CPU plus foreign use over the capacity, 0..1; the last known
// figure when the kernel gives none.
func (m *meter) load() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now, err := m.source.Load(); err == nil {
		m.last = now
	}
	return m.last
}
