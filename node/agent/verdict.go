package agent

import (
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/node/probe"
)

// ownLoad is this node's load for whoever asks; written by the loop, read by
// packet workers.
type ownLoad struct{ value atomic.Uint32 }

func (l *ownLoad) load() probe.Load { return probe.Load(l.value.Load()) }

func (l *ownLoad) store(to probe.Load) { l.value.Store(uint32(to)) }

// pathVerdict is written by the loop and read by packet workers.
type pathVerdict struct{ value atomic.Uint32 }

func (v *pathVerdict) load() probe.Verdict { return probe.Verdict(v.value.Load()) }

// store reports whether the verdict changed.
func (v *pathVerdict) store(to probe.Verdict) bool { return v.value.Swap(uint32(to)) != uint32(to) }
