package registry

// NextEpoch is the one that a slice gets after its present one, zero where it has none: above
// all that may have been granted before the mesh was recovered (I3).
func (s *State) NextEpoch(present uint32) uint32 { return max(present, s.EpochFloor) + 1 }

// NewestEpoch is the furthest that any slice which may get another one has, or could have had.
func (s *State) NewestEpoch() uint32 {
	newest := s.EpochFloor
	for _, ses := range s.ActiveSessions() {
		for _, sl := range ses.Slices {
			newest = max(newest, sl.Epoch)
		}
	}
	return newest
}
