package masquerade

import (
	"net/netip"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/node/netstack"
)

// flow is a key: the same ports may be in use by both protocols.
type flow struct {
	netstack.Flow
	tcp bool
}

// table is the flows under way, and those that were refused a moment ago.
type table struct {
	running sync.WaitGroup

	mu     sync.Mutex // protects the fields below
	flows  map[flow]*entry
	count  map[netip.Addr]int // flows of each client
	closed bool
}

// entry is one flow. Until it is carried it has nothing to end.
type entry struct {
	end     func()
	refused bool
}

func (t *table) open() { t.flows, t.count = make(map[flow]*entry), make(map[netip.Addr]int) }

// enter makes room for a flow; whoever entered leaves.
func (t *table) enter(f flow) reason {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := t.flows[f]
	switch {
	case t.closed:
		return ending
	case known != nil && known.refused:
		return unreached
	case known != nil:
		return twice
	case len(t.flows) >= MaxFlows:
		return tooMany
	case t.count[f.From.Addr()] >= MaxFlowsOfClient:
		return tooManyOfClient
	}
	t.flows[f] = &entry{}
	t.count[f.From.Addr()]++
	t.running.Add(1)
	return fine
}

// carry says how a flow is ended; false if all were just now.
func (t *table) carry(f flow, end func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.flows[f].end = end
	}
	return !t.closed
}

func (t *table) leave(f flow) {
	defer t.running.Done()
	t.forget(f)
}

// leaveFor leaves a flow that was refused: what follows it is refused at once.
func (t *table) leaveFor(f flow, while time.Duration) {
	defer t.running.Done()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.flows[f].refused, t.flows[f].end = true, nil
	time.AfterFunc(while, func() { t.forget(f) })
}

func (t *table) forget(f flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.flows, f)
	if t.count[f.From.Addr()]--; t.count[f.From.Addr()] == 0 {
		delete(t.count, f.From.Addr())
	}
}

// size is how many flows of some kind are under way.
func (t *table) size(counts func(flow) bool) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for f, e := range t.flows {
		if !e.refused && counts(f) {
			n++
		}
	}
	return n
}

// close ends all flows and waits for them.
func (t *table) close() {
	t.mu.Lock()
	t.closed = true
	for _, e := range t.flows {
		if e.end != nil {
			e.end()
		}
	}
	t.mu.Unlock()
	t.running.Wait()
}
