package registry

import (
	"maps"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func (c *AdvanceTick) apply(s *State, _ entry) (Result, *Error) {
	if c.Elapsed == 0 || c.Elapsed > MaxElapsed {
		return Result{}, ErrInvalid.with("%d s elapsed, want 1 to %d", c.Elapsed, MaxElapsed)
	}
	s.Tick += Tick(c.Elapsed)
	s.expireSessions()
	s.expireTokens()
	s.expireIndexes()
	return Result{}, nil
}

func (s *State) expireIndexes() {
	over := func(_ identity.Index, hold IndexHold) bool { return hold.Free != 0 && hold.Free <= s.Tick }
	s.Indexes = without(s.Indexes, over)
}

func (s *State) expireSessions() {
	for end := range s.index.ended.All() {
		if s.Tick < end.at+EndedKept {
			return
		}
		s.dropSession(s.Sessions.Get(end.id))
	}
}

// without is a map without some of its entries: the same one when none is over.
func without[K comparable, V any](m map[K]V, over func(K, V) bool) map[K]V {
	for k, v := range m {
		if over(k, v) {
			m = maps.Clone(m)
			maps.DeleteFunc(m, over)
			return m
		}
	}
	return m
}
