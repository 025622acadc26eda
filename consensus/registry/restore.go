package registry

// Succeed makes a state read from a snapshot ready to go on in place of the one
// that a replica has now, which may be newer, older or empty. Whoever was
// refused in either stays refused; what was given away in either is not given
// to somebody else before its hold is over (I13); the clock does not go back, and no epoch
// that either knows of is granted again (I3): Reincarnate says it of those that neither does.
// Slices are void, for their agents have gone on: clients resume.
func (s *State) Succeed(present *State) {
	s.Tick = max(s.Tick, present.Tick)
	s.HeadlessFloor = max(s.HeadlessFloor, present.HeadlessFloor)
	if present.Founded() {
		s.HeadlessFloor = max(s.HeadlessFloor, present.Tick+Tick(present.Headless()))
	}
	if len(s.Cluster.Recovery) == 0 {
		s.Cluster.Recovery = present.Cluster.Recovery
	}
	s.Cluster.Incarnation = max(s.Cluster.Incarnation, present.Cluster.Incarnation)
	s.EpochFloor = max(s.NewestEpoch(), present.NewestEpoch())
	s.Enlarged = s.Enlarged || present.Enlarged
	s.refuseAlso(present)
	s.holdAlso(present)
	s.Enlarged = s.Enlarged || s.fits(s.Room()) != nil // both together may have more than either had room for
	for _, ses := range s.ActiveSessions() {
		ses = ses.copy()
		ses.Retiring = nil
		for i := range ses.Slices {
			ses.Slices[i].mark(SliceVoid, s.Tick)
		}
		s.putSession(ses)
	}
}

// refuseAlso unites the lists of what is denied.
func (s *State) refuseAlso(present *State) {
	at := entry{s.Index, s.Term}
	for id, n := range present.Nodes {
		if known := s.Nodes[id]; n.Removed && known != nil && !known.Removed {
			// It is a member here, so this cannot be refused.
			_, _ = (&RemoveNode{ID: id}).apply(s, at)
		}
	}
	for name, c := range present.Clients.All() {
		if known := s.Clients.Get(name); c.Revoked && known != nil && !known.Revoked {
			_, _ = (&RevokeClient{Name: name}).apply(s, at)
		}
	}
	for name, a := range present.Authorities {
		if known := s.Authorities[name]; a.Revoked && known != nil && !known.Revoked {
			_, _ = (&RevokeAuthority{Name: name}).apply(s, at)
		}
	}
	for _, cert := range present.Certificates.All() {
		if cert.Revoked {
			s.revokeListed(cert)
		}
	}
	for id, ended := range present.Sessions.All() {
		if ses := s.Sessions.Get(id); ended.State == SessionEnded && ses != nil && ses.State == SessionActive {
			s.endSession(ses, ended.Reason, ended.Bytes)
		}
	}
}

// holdAlso keeps indexes and addresses that the snapshot does not know of. Whom the
// present state granted SAs nobody can say for sure, so time alone frees addresses.
func (s *State) holdAlso(present *State) {
	for index, hold := range present.Indexes {
		if _, known := s.Indexes[index]; !known {
			s.hold(index, IndexHold{Node: hold.Node, Free: s.holdUntil()})
		}
	}
	s.forgetTracking()
	for address, lease := range present.Leases.All() {
		known := s.Leases.Get(address)
		if known == nil || known.idle() && !(lease.idle() && present.free(lease)) {
			s.putLease(address, &Lease{Client: lease.Client, Device: lease.Device, Free: s.holdUntil()})
		}
	}
}
