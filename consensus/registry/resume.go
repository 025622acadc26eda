package registry

import "slices"

// apply gives a session its client's new key, and each slice named its next epoch, or
// changes nothing.
func (c *ResumeKey) apply(s *State, at entry) (Result, *Error) {
	ses, err := s.active(c.Session)
	if err != nil {
		return Result{}, err
	}
	if err := s.admitted(ses.Client); err != nil {
		return Result{}, err
	}
	if err := s.certified(ses.Certificate, ses.Client); err != nil {
		return Result{}, err
	}
	if err := checkSessionKey(c.Key, c.Hello); err != nil {
		return Result{}, err
	}
	if c.Request == (RequestID{}) {
		return Result{}, ErrInvalid.with("no request id")
	}
	if other, ok := s.Requests.Find(c.Request); ok && other != ses.ID {
		return Result{}, ErrExists.with("the request id is another session's")
	}
	if err := c.checkSlices(s, ses); err != nil {
		return Result{}, err
	}
	for _, sl := range c.Slices {
		s.spend(sl)
	}
	with := *s.Sessions.Get(ses.ID) // a new boot may have voided slices
	with.Request, with.Key, with.Hello = c.Request, c.Key, c.Hello
	resumed := with.copy()
	for _, sl := range c.Slices {
		granted := sl.granted(s.Tick, at)
		resumed.Slices[resumed.at(sl.Number)] = granted
		resumed.hold(granted)
	}
	// The client has moved on to the new request: one per session is enough.
	s.Requests.Delete(ses.Request)
	s.Requests.Put(c.Request, ses.ID)
	s.putSession(resumed)
	return Result{Session: ses.ID}, nil
}

// checkSlices rechecks each as GrantSlice does, and that together they name no slice and
// no prekey twice.
func (c *ResumeKey) checkSlices(s *State, ses *Session) *Error {
	for i, sl := range c.Slices {
		clash := func(g Slice) bool {
			return g.Number == sl.Number || g.Agent == sl.Agent && (g.SPI == sl.SPI || g.Boot != sl.Boot)
		}
		at := ses.at(sl.Number)
		switch {
		case slices.ContainsFunc(c.Slices[:i], clash):
			return ErrPrekey.with("slice %d or SPI %#x is named twice, or its agent at two boots", sl.Number, sl.SPI)
		case at < 0:
			return ErrStale.with("no slice %d", sl.Number)
		case sl.Epoch != s.NextEpoch(ses.Slices[at].Epoch) || sl.Epoch == 0:
			return ErrStale.with("slice %d is at epoch %d, not before %d", sl.Number, s.NextEpoch(ses.Slices[at].Epoch)-1, sl.Epoch)
		}
		if err := ses.peered(sl); err != nil {
			return err
		}
		if err := s.checkGrant(sl); err != nil {
			return err
		}
	}
	return nil
}

// at is where a slice stands among those of its session; -1: nowhere.
func (ses *Session) at(number uint8) int {
	return slices.IndexFunc(ses.Slices, func(sl Slice) bool { return sl.Number == number })
}
