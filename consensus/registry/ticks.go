package registry

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
	for ix, hold := range s.Indexes {
		if hold.Free != 0 && hold.Free <= s.Tick {
			delete(s.Indexes, ix)
		}
	}
}

func (s *State) expireSessions() {
	for _, ses := range s.Sessions {
		if ses.State == SessionEnded && s.Tick >= ses.Ended+EndedKept {
			s.dropSession(ses)
		}
	}
}

// dropSession forgets an ended session and the request that opened it.
func (s *State) dropSession(ses *Session) {
	delete(s.Sessions, ses.ID)
	s.touchSession(ses.ID)
	if s.Requests[ses.Request] == ses.ID {
		delete(s.Requests, ses.Request)
	}
}
