package consensus

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// errRefused is why a snapshot is not sent: whoever should get it did not take it lately.
var errRefused = errors.New("consensus: refused lately")

// refusers are the servers that refuse this leader's snapshot, as a voter does that keeps
// committed changes. Raft would send it again every few seconds, for ever, whatever its
// size. Whose log ends elsewhere since, as that of one that was made anew, is another case.
type refusers struct {
	mu  sync.Mutex // protects all
	all map[raft.ServerID]*refuser
}

// refuser is one server. It is known from the first answer on, whatever it answers.
type refuser struct {
	ends  uint64        // its log, by its last answer
	wait  time.Duration // zero: it refused nothing
	again time.Time
}

func newRefusers() *refusers { return &refusers{all: make(map[raft.ServerID]*refuser)} }

func (r *refusers) of(id raft.ServerID) *refuser {
	if r.all[id] == nil {
		if len(r.all) >= MaxStreams { // more than there are servers: they were all replaced
			clear(r.all)
		}
		r.all[id] = &refuser{}
	}
	return r.all[id]
}

// ends notes where a server's log ends.
func (r *refusers) ends(id raft.ServerID, index uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if of := r.of(id); of.ends != index {
		*of = refuser{ends: index}
	}
}

// due says that a snapshot may be sent.
func (r *refusers) due(id raft.ServerID, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !now.Before(r.of(id).again)
}

// refused notes that a server did not take it; for the first time it is to be told.
func (r *refusers) refused(id raft.ServerID, now time.Time) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.of(id)
	first = of.wait == 0
	of.wait = min(max(RefusedFirst, 2*of.wait), RefusedMost)
	of.again = now.Add(of.wait)
	return first
}
