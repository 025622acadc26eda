package agent

import (
	"bytes"
	"net/netip"
	"sync"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// ReceiveMarked is the packet engine's callback for marked datagrams: Accepts
// of clients and nodes, Confirms and probes of nodes, verdicts that agents pass on. It
// copies, enqueues and returns. What has a MAC is checked before: strangers may reach
// the inside network, and write a node's address on what they send.
func (a *Agent) ReceiveMarked(from link.Socket, path link.Path, m dataplane.Marker, datagram []byte) {
	switch m.Type {
	case dataplane.MarkerAccept:
		queue, full := a.outside, "accept-queue-full"
		if from != nil && from.LocalAddr().Port() == a.config.InsidePort {
			queue, full = a.handshakes, "handshake-queue-full"
		}
		a.wait(queue, full, func() event { return accepted{from, path, m.SPI, bytes.Clone(datagram)} })
	case dataplane.MarkerConfirm:
		a.wait(a.handshakes, "handshake-queue-full", func() event { return linkConfirmed{m.SPI, bytes.Clone(datagram)} })
	case dataplane.MarkerProbe, dataplane.MarkerProbeReply, dataplane.MarkerPathTest:
		a.receiveProbe(datagram)
	case dataplane.MarkerClaim:
		a.receiveClaim(path.Remote.Addr(), datagram)
	case dataplane.MarkerVerdict:
		a.receiveVerdict(path.Remote.Addr(), datagram)
	default:
		a.rejects.count("marker-unknown")
	}
}

func (a *Agent) receiveProbe(datagram []byte) {
	if key := a.probeKey.Load(); key != nil {
		if m, ok := probe.ParseNode(datagram, *key); ok {
			a.wait(a.nodes, nodesFull, func() event { return nodeDatagram{m} })
			return
		}
	}
	a.rejects.count("probe-refused")
}

func (a *Agent) receiveClaim(by netip.Addr, datagram []byte) {
	if key := a.probeKey.Load(); key != nil {
		if c, ok := probe.ParseClaim(datagram, *key); ok {
			a.wait(a.nodes, nodesFull, func() event { return claimed{by, c} })
			return
		}
	}
	a.rejects.count("claim-refused")
}

func (a *Agent) receiveVerdict(from netip.Addr, datagram []byte) {
	if key := a.probeKey.Load(); key != nil {
		if v, ok := probe.ParseSliceVerdict(datagram, *key); ok {
			a.wait(a.nodes, nodesFull, func() event { return passedVerdict{from, v} })
			return
		}
	}
	a.rejects.count("verdict-refused")
}

const nodesFull = "node-queue-full"

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
