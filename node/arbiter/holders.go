package arbiter

import (
	"bytes"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// An address is free again when every agent that held an SA for it has said that none
// runs any more (I13). Agents are asked over their present streams, about sessions
// that are over: what an earlier arbiter sent them is void by then, and this one grants
// such a session nothing, so an answer stays true.

// trackedVersion is that of the commands that record who holds SAs.
const trackedVersion = 4

// batchVersion is that of the commands that mark many slices at once.
const batchVersion = 5

// regrantVersion is that of the resumptions that grant slices.
const regrantVersion = 6

// reads reports whether every server that keeps the log reads a version of the
// commands. One without a stream that runs is waited for, and any at the start of a
// term; one that is down reads, or stops by name, when it is back.
func (a *Arbiter) reads(version byte) bool {
	older, unknown := a.readersBelow(version)
	return len(older)+len(unknown) == 0
}

// readersBelow are the servers of the log that cannot read a version, and those that
// have not said yet whether they can.
func (a *Arbiter) readersBelow(version byte) (older, unknown []identity.NodeID) {
	for _, server := range a.config.Store.Servers() {
		n := a.nodes[server.ID]
		switch {
		case server.ID == a.config.Trust.Key.ID():
		case n != nil && n.hello.Reads < version:
			older = append(older, server.ID)
		case n == nil && (a.config.Now()-a.began < ServersWithin || a.config.Answers(server.ID)):
			unknown = append(unknown, server.ID) // its stream is on its way
		}
	}
	return older, unknown
}

// ofDevice takes the client's word, and proof, of which device it is.
func (c *clientStream) ofDevice(m *protocol.Hello, exporter []byte) error {
	if len(m.Device) == 0 {
		return nil
	}
	id := mka.DeviceID{}
	if len(m.Device) != len(id) {
		return protocol.ErrFrame
	}
	copy(id[:], m.Device)
	if !mka.VerifyDevice(c.key, exporter, m.Hello, id, m.DeviceProof) {
		return no(protocol.RefusedAuth, "the device's proof does not hold")
	}
	c.device = registry.DeviceID(id)
	return nil
}

// deviceOf is what a session is opened with: while a replica cannot read of devices,
// none, as before there were any.
func (a *Arbiter) deviceOf(c *clientStream) (id registry.DeviceID, track bool) {
	if !a.reads(trackedVersion) {
		return id, false
	}
	return c.device, true
}

// askHolders asks agents about sessions that are over and that they may still hold
// SAs of, again after AskAgain.
func (a *Arbiter) askHolders() {
	if !a.reads(trackedVersion) {
		return // their answers could not be committed
	}
	now := a.config.Now()
	open := make(map[identity.NodeID]map[registry.SessionID]time.Duration)
	a.config.Store.View(func(s *registry.State) {
		s.Unacknowledged(func(h registry.Holder) {
			n := a.nodes[h.Agent]
			if n == nil || n.hello.Boot != h.Boot || n.hello.Reads < trackedVersion {
				return
			}
			if open[h.Agent] == nil {
				open[h.Agent] = make(map[registry.SessionID]time.Duration)
			}
			open[h.Agent][h.Session] = n.asked[h.Session]
		})
	})
	for id, n := range a.nodes {
		n.asked = open[id]
		n.ask(now)
	}
}

// ask names the sessions that are due, at most as many as one answer may name.
func (n *nodeStream) ask(now time.Duration) {
	var due []registry.SessionID
	for id, at := range n.asked {
		if (at == 0 || now-at >= AskAgain) && len(due) < registry.MaxAcknowledged {
			due, n.asked[id] = append(due, id), now
		}
	}
	if len(due) > 0 {
		slices.SortFunc(due, func(x, y registry.SessionID) int { return bytes.Compare(x[:], y[:]) })
		n.Say(&protocol.Node{Ended: &protocol.Sessions{Sessions: due}})
	}
}

// freed commits what an agent says of itself, and of what it was asked over this
// stream: anything else it may have said before it was granted something.
func (a *Arbiter) freed(n *nodeStream, m *protocol.Sessions) {
	var sessions []registry.SessionID
	for _, id := range m.Sessions {
		if n.asked[id] != 0 && len(sessions) < registry.MaxAcknowledged {
			sessions = append(sessions, id)
			delete(n.asked, id)
		}
	}
	if len(sessions) == 0 || !a.reads(trackedVersion) {
		return
	}
	a.submit(proposal{command: registry.Command{ID: a.commandID(), Acknowledge: &registry.Acknowledge{
		Agent: n.node, Boot: n.hello.Boot, Sessions: sessions,
	}}})
}
