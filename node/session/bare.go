package session

import (
	"fmt"
	"time"
)

// bare are the slices that were found without an agent, and not said yet. When a node dies
// those of all its clients are, and the operator wants to hear it once.
type bare struct {
	slices int
	one    string // of them
	since  time.Duration
}

func (a *Arbitrator) noteBare(client string, number uint8) {
	if a.bare.slices++; a.bare.slices == 1 {
		a.bare.one, a.bare.since = fmt.Sprintf("slice %d of client %s", number, client), a.now
	}
}

// sayBare tells the operator of all that were found in BareAfter.
func (a *Arbitrator) sayBare() {
	switch b := a.bare; {
	case b.slices == 0 || a.now-b.since < BareAfter:
		return
	case b.slices == 1:
		a.alert("%s has no agent", b.one)
	default:
		a.alert("%d slices have no agent, %s among them", b.slices, b.one)
	}
	a.bare = bare{}
}
