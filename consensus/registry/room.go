package registry

// Room is how many of the large things a mesh may have.
type Room struct {
	Sessions     int
	Leases       int
	Clients      int
	Certificates int
}

var largest = Room{MaxSessions, MaxLeases, MaxClients, MaxCertificates}

// Room is MaxSessions and the like in a mesh that was enlarged. Any other keeps the
// limits of the builds before that: all replicas must refuse the same.
func (s *State) Room() Room {
	if s.Enlarged {
		return largest
	}
	return Room{Sessions: 32_768, Leases: 131_072, Clients: 65_536, Certificates: 65_536}
}

// Crowded reports whether a mesh needs to be enlarged soon: a quarter is left of
// something.
func (s *State) Crowded() bool {
	room := s.Room()
	full := func(n, most int) bool { return n >= most/4*3 }
	return !s.Enlarged && (full(s.Sessions.Len(), room.Sessions) || full(s.Leases.Len(), room.Leases) ||
		full(s.Clients.Len(), room.Clients) || full(s.Certificates.Len(), room.Certificates))
}

func (c *Enlarge) apply(s *State, _ entry) (Result, *Error) {
	s.Enlarged = true
	return Result{}, nil
}
