package slots

import "time"

// Siege notes whom we turned away for want of slots, room or budget, and tells
// when that is worth an operator's attention. The zero value is peace.
type Siege struct {
	begin, last time.Duration
	refused     uint64
	sources     map[Source]struct{}
}

// Siege's answer: since when, how many connections, from how many sources at
// least.
type Report struct {
	Since   time.Duration
	Refused uint64
	Sources int
	Many    bool // more sources than are counted
}

// Refused notes one.
func (s *Siege) Refused(from Source, now time.Duration) {
	if s.refused == 0 || now-s.last > CalmAfter {
		*s = Siege{begin: now, sources: make(map[Source]struct{})}
	}
	s.last = now
	s.refused++
	if len(s.sources) < MaxSources {
		s.sources[from] = struct{}{}
	}
}

// Report is what goes on; false in peace.
func (s *Siege) Report(now time.Duration) (Report, bool) {
	if s.refused < SiegeFrom || now-s.last > CalmAfter {
		return Report{}, false
	}
	return Report{s.begin, s.refused, len(s.sources), len(s.sources) >= MaxSources}, true
}
