package node

import (
	"context"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// replicas is when the replica of each other server of the log last answered
// this one over the Raft port. The zero value is ready.
type replicas struct {
	mu     sync.Mutex // protects what follows
	heard  map[identity.NodeID]time.Duration
	asking map[identity.NodeID]bool // without an answer yet
}

// begin says whether a server is to be asked now: not twice at a time.
func (r *replicas) begin(id identity.NodeID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.asking == nil {
		r.heard, r.asking = make(map[identity.NodeID]time.Duration), make(map[identity.NodeID]bool)
	}
	first := !r.asking[id]
	r.asking[id] = true
	return first
}

// end is what became of it.
func (r *replicas) end(id identity.NodeID, answered bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.asking, id)
	if answered {
		r.heard[id] = bootTime()
	}
}

// answers says whether a server was heard in the last ReachStale.
func (r *replicas) answers(id identity.NodeID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ever := r.heard[id]
	return ever && bootTime()-at <= ReachStale
}

// retain forgets all servers but these.
func (r *replicas) retain(servers []consensus.Server) {
	r.mu.Lock()
	defer r.mu.Unlock()
	heard := make(map[identity.NodeID]time.Duration, len(servers))
	for _, server := range servers {
		if at, ever := r.heard[server.ID]; ever {
			heard[server.ID] = at
		}
	}
	r.heard = heard
}

// keepReaching asks every other server of the log, over and over, whether its
// replica answers; a silent one keeps nobody else waiting.
func (n *Node) keepReaching(ctx context.Context) {
	store := n.awaitStore(ctx)
	if store == nil {
		return
	}
	var asked sync.WaitGroup
	defer asked.Wait()
	ticker := time.NewTicker(ReachEvery)
	defer ticker.Stop()
	for {
		servers := n.otherServers(store)
		n.replicas.retain(servers)
		for _, server := range servers {
			if n.replicas.begin(server.ID) {
				asked.Go(func() { n.replicas.end(server.ID, n.reaches(ctx, store, server.ID)) })
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (n *Node) reaches(ctx context.Context, store *consensus.Raft, id identity.NodeID) bool {
	ctx, cancel := context.WithTimeout(ctx, ReachWithin)
	defer cancel()
	err := store.Reach(ctx, id)
	if err != nil {
		n.config.Log.Debug("a server of the log was not reached", "node", id.Short(), "error", err)
	}
	return err == nil
}

// otherServers are the servers of the log but this one.
func (n *Node) otherServers(store *consensus.Raft) (others []consensus.Server) {
	for _, server := range store.Servers() {
		if server.ID != n.trust.Key.ID() {
			others = append(others, server)
		}
	}
	return others
}

// replica is what the arbiter is told of this node's copy of the log; nil while
// it keeps none.
func (n *Node) replica() *protocol.Replica {
	store := n.store.Load()
	if store == nil {
		return nil
	}
	stats := store.Stats()
	told := &protocol.Replica{Term: stats.Term, Applied: stats.Applied}
	for _, server := range n.otherServers(store) {
		if !n.replicas.answers(server.ID) {
			told.Unreached = append(told.Unreached, server.ID)
		}
	}
	return told
}
