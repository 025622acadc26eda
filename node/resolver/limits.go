package resolver

import "time"

// Limits of a resolver (I10).
const (
	// MaxServers and MaxSearch bound what is asked, and for what.
	MaxServers = 3
	MaxSearch  = 6
	// AskTimeout is how long one server has to answer, Attempts how often all
	// of them are asked.
	AskTimeout = 2 * time.Second
	Attempts   = 2
	// MaxAliases bounds a chain of CNAMEs within one answer, MaxAnswers the
	// addresses taken from it.
	MaxAliases = 8
	MaxAnswers = 16

	maxDatagram = 1232 // no fragments on any path
	maxStream   = 65535
)
