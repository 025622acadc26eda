package registry

// Clone is a copy that shares nothing that Apply would change, at no cost: Apply
// changes nothing in place.
func (s *State) Clone() *State {
	c := *s
	c.Feed = nil
	return &c
}
