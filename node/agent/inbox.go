package agent

import (
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// What others say waits for the control loop apart from what this node needs, each
// kind in a queue of its own: datagrams of strangers, of other nodes, and control
// messages inside SAs. Whoever fills one of them harms nobody in another.

// sender is who speaks inside an SA: a session, or a node. It waits for its turn.
type sender struct {
	session registry.SessionID
	node    identity.NodeID
}

// speaks lets a control message wait for the turn of its sender; make is not called
// where there is no room.
func (a *Agent) speaks(from sender, make func() event) {
	if a.inband.Full(from) || !a.inband.Put(from, make()) {
		a.rejects.count("control-full")
	}
}

// fromNode lets a datagram of another node wait.
func (a *Agent) fromNode(e event) {
	select {
	case a.nodes <- e:
	default:
		a.rejects.count("node-queue-full")
	}
}
