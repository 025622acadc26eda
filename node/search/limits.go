package search

import "time"

// Limits and times of a search (I10).
const (
	// Within bounds what is tried at one address.
	Within = 2 * time.Second
	// Stagger is how long one address is tried alone.
	Stagger = 200 * time.Millisecond
	// OpeningMin is the first pause before a node that leads is asked again, and twice as
	// long each time: it opens its doors.
	OpeningMin = 20 * time.Millisecond
	// MaxCandidates bounds one search.
	MaxCandidates = 16
)
