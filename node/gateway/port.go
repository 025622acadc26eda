package gateway

import (
	"slices"
	"sync"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// port is one inside port with at most one row of each node.
type port struct {
	socket  link.Sender
	emptied int64 // clock when its last row went; protected by Gateway.mu

	mu   sync.RWMutex // protects rows
	rows map[identity.Index]*row
}

// fault is why a port did not open.
type fault struct {
	err error
	at  int64 // clock
}

// recent is the fault for as long as somebody should hear of it.
func (f fault) recent(now int64) error {
	if now-f.at > int64(FaultShown) {
		return nil
	}
	return f.err
}

func (p *port) row(ix identity.Index) *row {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.rows[ix]
}

func (p *port) put(r *row) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rows[r.node] = r
}

func (p *port) remove(r *row, now int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.rows, r.node)
	if len(p.rows) == 0 {
		p.emptied = now
	}
}

// idle takes out the ports that had no row for PortRest. By then they have rested
// at every node, so a new port is as good to any of them. The caller closes them.
func (m *making) idle(now int64) (idle []*port) {
	rested := func(p *port) bool { return len(p.rows) == 0 && now-p.emptied >= int64(PortRest) }
	if !slices.ContainsFunc(m.ports, rested) {
		return nil // as almost always
	}
	var kept []*port
	place := make([]int, len(m.ports)+1) // how many of those before each are kept
	for i, p := range m.ports {
		if rested(p) {
			m.lost += p.socket.Lost()
			idle = append(idle, p)
		} else {
			kept = append(kept, p)
		}
		place[i+1] = len(kept)
	}
	m.ports = kept
	gone := make(map[*port]bool, len(idle))
	for _, p := range idle {
		gone[p] = true
	}
	for _, l := range m.lanes {
		l.used = place[l.used]
		l.forget(gone)
	}
	return idle
}

// forget takes out what rests at ports that are gone.
func (l *lane) forget(gone map[*port]bool) {
	of := func(r resting) bool { return gone[r.port] }
	l.unused, l.answered = slices.DeleteFunc(l.unused, of), slices.DeleteFunc(l.answered, of)
}

// atRest reports whether a lane knows no more than a new one would: it has no
// rows, and what rests has rested.
func (l *lane) atRest(now int64) bool {
	for _, ports := range [][]resting{l.unused, l.answered} {
		if n := len(ports); n > 0 && now-ports[n-1].since < int64(PortRest) {
			return false
		}
	}
	return l.rows == 0
}
