package agent

import (
	"sync"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// ReceiveMarked is the packet engine's callback for marked datagrams: Accepts
// of clients, probes of nodes, verdicts that agents pass on. It copies, enqueues and returns.
func (a *Agent) ReceiveMarked(from link.Socket, path link.Path, m dataplane.Marker, datagram []byte) {
	var e event
	switch m.Type {
	case dataplane.MarkerAccept:
		a.receiveAccept(from, path, m.SPI, datagram)
		return
	case dataplane.MarkerConfirm:
		e = linkConfirmed{m.SPI, append([]byte(nil), datagram...)}
	case dataplane.MarkerProbe, dataplane.MarkerProbeReply, dataplane.MarkerPathTest:
		e = nodeDatagram{append([]byte(nil), datagram...)}
	case dataplane.MarkerVerdict:
		e = passedVerdict{path.Remote.Addr(), append([]byte(nil), datagram...)}
	default:
		a.rejects.count("marker-unknown")
		return
	}
	a.fromNode(e)
}

// receiveAccept lets a stranger's datagram wait, if there is room, and costs
// nothing else: it may be one of very many.
func (a *Agent) receiveAccept(from link.Socket, path link.Path, spi uint32, datagram []byte) {
	if len(a.outside) == cap(a.outside) {
		a.rejects.count("accept-queue-full")
		return
	}
	select {
	case a.outside <- accepted{from, path, spi, append([]byte(nil), datagram...)}:
	default:
		a.rejects.count("accept-queue-full")
	}
}

// rejects counts marked datagrams that the control loop turned away, by reason.
type rejects struct {
	mu sync.Mutex // protects by
	by map[string]uint64
}

func newRejects() *rejects { return &rejects{by: make(map[string]uint64)} }

func (r *rejects) count(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.by[reason]++
}

// Rejects returns how many marked datagrams were turned away, by reason.
func (a *Agent) Rejects() map[string]uint64 {
	a.rejects.mu.Lock()
	defer a.rejects.mu.Unlock()
	all := make(map[string]uint64, len(a.rejects.by))
	for reason, n := range a.rejects.by {
		all[reason] = n
	}
	return all
}
