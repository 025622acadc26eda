// Package clocks judges the wall clocks of a mesh's nodes by each other: whose is wrong,
// by how much, and whether that is known well enough for a leader to give way.
//
// It owns that judgement alone. It reads no clock, asks nobody and does nothing about
// a wrong one (node, node/arbiter).
package clocks

import (
	"fmt"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Limit is how far a clock may be from the others. A leader whose clock is further off
// mints certificates that the others do not take (design 9).
const Limit = 60 * time.Second

// Quorum is how many clocks it takes to know which one is wrong: of two that differ
// nobody can say.
const Quorum = 3

// Reading is one node's wall clock. All readings that are judged together show the same
// moment.
type Reading struct {
	Node  identity.NodeID
	Voter bool
	Shows time.Duration // since whenever, the same for all
}

// Verdict is what readings come to. The zero Verdict is that of clocks that agree.
type Verdict struct {
	// Off is how far a clock is ahead of the median, of those alone that are further off
	// than Limit; negative: behind.
	Off map[identity.NodeID]time.Duration
	// Sure says that the median is one of voters. One of other nodes is worth a warning.
	Sure bool
	// Apart is between two halves of which nobody knows which is right; 0: there are none.
	Apart time.Duration
}

// Judge compares the voters' clocks, and with less than Quorum of them all nodes', with
// their median.
func Judge(all []Reading) Verdict {
	var voters []Reading
	for _, r := range all {
		if r.Voter {
			voters = append(voters, r)
		}
	}
	v := Verdict{Sure: len(voters) >= Quorum}
	judges := all
	if v.Sure {
		judges = voters
	}
	low, high := middle(judges)
	switch {
	case high-low > Limit:
		return Verdict{Apart: high - low}
	case len(judges) < Quorum:
		return Verdict{}
	}
	v.Off = off(all, low+(high-low)/2)
	return v
}

// middle is the two readings in the middle, or twice the one.
func middle(all []Reading) (low, high time.Duration) {
	if len(all) == 0 {
		return 0, 0
	}
	shows := make([]time.Duration, len(all))
	for i, r := range all {
		shows[i] = r.Shows
	}
	slices.Sort(shows)
	return shows[(len(shows)-1)/2], shows[len(shows)/2]
}

func off(all []Reading, median time.Duration) map[identity.NodeID]time.Duration {
	wrong := make(map[identity.NodeID]time.Duration)
	for _, r := range all {
		if ahead := r.Shows - median; ahead > Limit || -ahead > Limit {
			wrong[r.Node] = ahead.Round(time.Second)
		}
	}
	return wrong
}

// Words say that a host's clock is wrong, and what to do.
func Words(host string, ahead time.Duration) string {
	way, by := "ahead of", ahead
	if ahead < 0 {
		way, by = "behind", -ahead
	}
	return fmt.Sprintf("the clock of %s is %v %s the others': set it there (timedatectl set-ntp true, or chronyc makestep); "+
		"until then %s cannot be the arbiter, and certificates look out of date there", host, by, way, host)
}
