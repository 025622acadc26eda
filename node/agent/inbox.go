package agent

import (
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// What others say waits for the control loop apart from what this node needs, each
// kind in a queue of its own: datagrams of strangers, those that other nodes
// authenticated, their handshakes, whose authenticity only the loop can tell, and
// control messages inside SAs. Whoever fills one of them harms nobody in another.

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

// wait lets an event wait in a queue. make is not called where there is no room: the
// datagram is one of very many then.
func (a *Agent) wait(queue chan event, full string, make func() event) {
	if len(queue) == cap(queue) {
		a.rejects.count(full)
		return
	}
	select {
	case queue <- make():
	default:
		a.rejects.count(full)
	}
}
