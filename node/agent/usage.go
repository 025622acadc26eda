package agent

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// What slices moved, and whether their clients are heard, is told every two seconds:
// of all of them at the start of a stream, then of those alone of which the arbiter
// knows something else. An idle client is heard every 15 s, a parked one once a minute.
// That is told every HeardEvery while it goes on, and at once after a longer silence; so
// what an arbiter takes for silence of SilentAfter never is less. Of a parked client,
// whose session lives by it for headless time, it is told every registry.ParkedWord.

// saidUsage is what the arbiter was told of a slice, and when.
type saidUsage struct {
	counters dataplane.PairCounters
	heard    time.Duration
	at       time.Duration
	mark     uint64
}

// reportUsage tells the arbiter what each slice has moved, and whether its client
// is heard.
func (a *Agent) reportUsage(now time.Duration) {
	if a.stream == nil {
		return
	}
	usage := &protocol.Usage{Changes: a.stream.told && a.view.changes}
	for _, s := range a.slices.byKey {
		if s.pair == nil || !s.from.IsZero() || usage.Changes && !s.hasNews(now, a.wordEvery(s)) {
			continue
		}
		n, mark := s.pair.Counters(), s.mark.Load()
		usage.Slices = append(usage.Slices, protocol.SliceUsage{
			Slice: s.key.ref(), In: n.BytesIn, Out: n.BytesOut, Refused: n.Refused, Quiet: s.quiet(now), Parked: mark,
		})
		s.said = saidUsage{n, s.heard(), now, mark}
	}
	a.stream.told = true
	if len(usage.Slices) > 0 {
		a.say(&protocol.Node{Usage: usage})
	}
}

// wordEvery is how often it is told that a slice's client is heard still.
func (a *Agent) wordEvery(s *slice) time.Duration {
	if !s.isParked() {
		return HeardEvery
	}
	return max(HeardEvery, time.Duration(registry.ParkedWord(a.view.policy.Headless))*time.Second)
}

// hasNews reports whether the arbiter was told anything else of a slice, or nothing.
func (s *slice) hasNews(now, wordEvery time.Duration) bool {
	return s.said.at == 0 || s.said.mark != s.mark.Load() || s.said.counters != s.pair.Counters() || s.said.heard != s.heard() && now-s.said.at >= wordEvery
}

// heard is when anything of the client was heard last; before, when the slice or its
// keys began.
func (s *slice) heard() time.Duration {
	heard := s.since
	for _, p := range [...]*dataplane.Pair{s.pair, s.older, s.next} {
		if p != nil {
			heard = max(heard, time.Duration(p.LastHeard()))
		}
	}
	return heard
}

// quiet is for how many seconds nothing of the client was heard, rounded up.
func (s *slice) quiet(now time.Duration) uint64 { return uint64((now-s.heard())/time.Second) + 1 }
