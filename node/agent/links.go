package agent

import (
	"bytes"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Where policy has hand-on sealed, an egress agrees an SA pair with every node it
// feeds, as a client does with an agent: MKA/1 over the inside network. The other
// end is a slice like any other here, but for a node (slice.from). Either of the two
// pairs that two nodes may have carries both directions.

// links is the SA pairs in which this node has the client's place. It is owned by
// the control loop.
type links struct {
	asked  map[identity.NodeID]*asking
	coming map[identity.NodeID]*nodeLink // offered, not confirmed
	inUse  map[identity.NodeID]*nodeLink
	ending []*nodeLink // replaced, still opening
}

func newLinks() *links {
	return &links{
		asked: make(map[identity.NodeID]*asking), coming: make(map[identity.NodeID]*nodeLink),
		inUse: make(map[identity.NodeID]*nodeLink),
	}
}

// asking is a request that the arbiter has not answered.
type asking struct {
	session identity.Key
	hello   []byte
	at      time.Duration
}

// nodeLink is one SA pair with another node, and what renews it.
type nodeLink struct {
	peer    protocol.NodeRow
	boot    identity.BootID // of the peer
	machine *mka.Client
	accept  []byte
	pair    *dataplane.Pair
	older   *dataplane.Pair // superseded by a rekey, still opening
	next    *dataplane.Pair // keyed by a rekey, not yet confirmed
	since   time.Duration   // offered
	olderAt time.Duration   // when older is released
	endsAt  time.Duration   // of one that was replaced
}

func (l *nodeLink) pairs() (all []*dataplane.Pair) {
	for _, p := range []*dataplane.Pair{l.pair, l.older, l.next} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

// all is every link with living keys.
func (t *links) all() (all []*nodeLink) {
	for _, group := range []map[identity.NodeID]*nodeLink{t.coming, t.inUse} {
		for _, l := range group {
			all = append(all, l)
		}
	}
	return append(all, t.ending...)
}

func (t *links) usesSPI(spi uint32) bool {
	for _, l := range t.all() {
		for _, p := range l.pairs() {
			if p.In.SPI() == spi {
				return true
			}
		}
	}
	return false
}

// sealed reports whether this node seals what it hands on, and takes nothing else:
// where the mesh does, and as soon as strangers have come to its inside interface,
// though no arbiter may be there to tell the mesh. From the start on the arbiter
// knows first. One that has no such word could not make the others seal.
func (a *Agent) sealed() bool {
	return a.meshSeals() || a.inside.bared && !a.rules.unsaid
}

func (a *Agent) meshSeals() bool { return a.view.policy.HandOn == registry.HandOnSealed }

// linkTo is the SA pair that seals for a node; nil while there is none.
func (a *Agent) linkTo(to protocol.NodeRow) *dataplane.Pair {
	if l := a.links.inUse[to.ID]; l != nil && l.boot == to.Boot {
		return l.pair
	}
	var newest *slice
	for _, s := range a.slices.byNode[to.ID] {
		if s.pair != nil && (newest == nil || s.since > newest.since) {
			newest = s
		}
	}
	if newest == nil {
		return nil
	}
	return newest.pair
}

// superviseLinks asks for what is missing, repeats accepts, and ends what is over.
func (a *Agent) superviseLinks(now time.Duration) {
	wanted := a.linkTargets()
	for id, row := range wanted {
		a.superviseLink(id, row, now)
	}
	for _, l := range a.links.all() {
		gone := a.view.nodeByID(l.peer.ID).Index == 0 || !a.sealed() || a.headless(now)
		unanswered := a.links.coming[l.peer.ID] == l && now-l.since > AcceptWithin
		if gone || unanswered || l.pair.Over(int64(now)) || l.endsAt != 0 && now >= l.endsAt {
			a.endLink(l)
		}
		if l.older != nil && now >= l.olderAt {
			l.older.Out.Stop()
			l.older, a.changes.mesh = nil, true
		}
	}
	for id := range a.links.asked {
		if wanted[id].Index == 0 {
			delete(a.links.asked, id)
		}
	}
}

// linkTargets are the agents that this node hands on to as egress, now or when it
// takes over: at most one for each index there is.
func (a *Agent) linkTargets() map[identity.NodeID]protocol.NodeRow {
	targets := make(map[identity.NodeID]protocol.NodeRow)
	if !a.sealed() {
		return targets
	}
	add := func(index identity.Index) {
		if row := a.view.nodes[index]; index != a.config.Index && row.Inside.IsValid() {
			targets[row.ID] = row
		}
	}
	for index := range a.view.fed {
		add(index)
	}
	for index := range a.view.raised {
		add(index)
	}
	return targets
}

func (a *Agent) superviseLink(id identity.NodeID, row protocol.NodeRow, now time.Duration) {
	if l := a.links.coming[id]; l != nil && l.boot == row.Boot {
		a.sendInside(l.accept, row)
		return
	}
	if l := a.links.inUse[id]; l != nil && l.boot == row.Boot {
		return
	}
	if asked := a.links.asked[id]; a.stream == nil || asked != nil && now-asked.at < LinkRetry {
		return
	}
	asked, err := a.newAsking(now)
	if err != nil {
		a.config.Log.Error("no SA asked for", "node", row.Name, "error", err)
		return
	}
	a.links.asked[id] = asked
	a.say(&protocol.Node{Link: &protocol.Link{Peer: id, Hello: asked.hello}})
}

func (a *Agent) sendInside(b []byte, to protocol.NodeRow) {
	_ = a.config.Inside.Send(b, len(b), link.Path{Remote: a.insideOf(to)}) // repeated by a later tick
}

// newAsking is M1 of a link, with a session key of its own.
func (a *Agent) newAsking(now time.Duration) (*asking, error) {
	key, err := identity.NewKey(a.config.Random)
	if err != nil {
		return nil, err
	}
	hello := mka.Hello{Versions: []uint16{mka.Version}, Suites: esp.Suites(), SessionKey: key.Public()}
	for _, random := range [][]byte{hello.Request[:], hello.Nonce[:]} {
		if _, err := a.config.Random.Read(random); err != nil {
			return nil, err
		}
	}
	return &asking{key, hello.Marshal(), now}, nil
}

// takeLink agrees keys with the node that an offer names.
func (a *Agent) takeLink(m *protocol.LinkOffer) {
	defer clear(m.Share)
	asked, row := a.links.asked[m.Peer], a.view.nodeByID(m.Peer)
	share, ok := shareOf(m.Share)
	defer clear(share[:])
	if asked == nil || row.Index == 0 || !ok {
		return
	}
	delete(a.links.asked, m.Peer)
	machine, accept, keys, err := mka.NewClient(a.config.Random, asked.session, m.Grant, a.stream.Arbiter,
		m.Prekey, &share, asked.hello, a.freshSPI(a.config.Index))
	if err != nil {
		a.config.Log.Warn("SA with a node refused", "node", row.Name, "error", err)
		return
	}
	g := machine.Grant()
	if g.Mode != protocol.ModeLink || g.Agent != m.Peer || g.Fence().Less(a.floor) {
		keys.Wipe()
		machine.Wipe()
		a.config.Log.Warn("SA with a node refused", "node", row.Name, "error", mka.ErrMismatch)
		return
	}
	l := &nodeLink{peer: row, boot: g.Boot, machine: machine, accept: accept, since: a.config.Now()}
	if l.pair, err = a.linkPair(l, keys); err != nil {
		machine.Wipe()
		a.config.Log.Error("SA with a node not keyed", "node", row.Name, "error", err)
		return
	}
	if old := a.links.coming[m.Peer]; old != nil {
		a.endLink(old)
	}
	a.links.coming[m.Peer] = l
	a.changes.mesh = true
	a.publishIfDirty() // the answer may come at once
	a.sendInside(accept, row)
}

// linkPair turns agreed keys into an SA pair for the engine.
func (a *Agent) linkPair(l *nodeLink, keys mka.Keys) (*dataplane.Pair, error) {
	pair, err := a.keyPair(keys)
	if err != nil {
		return nil, err
	}
	pair.Socket, pair.Node = a.config.Inside, l.peer.Index
	pair.Control = func(payload []byte) {
		if len(payload) > 0 {
			a.speaks(sender{node: l.peer.ID}, func() event { return linkControl{l, payload[0], bytes.Clone(payload[1:])} })
		}
	}
	pair.SetPath(link.Path{Remote: a.insideOf(l.peer)})
	return pair, nil
}

// linkConfirmed is the other node's M5.
type linkConfirmed struct {
	spi      uint32
	datagram []byte
}

// apply puts a confirmed link into use.
func (e linkConfirmed) apply(a *Agent) {
	for id, l := range a.links.coming {
		if l.pair.In.SPI() != e.spi {
			continue
		}
		if l.machine.Confirm(e.datagram) != nil {
			a.rejects.count("confirm-refused")
			return
		}
		delete(a.links.coming, id)
		if old := a.links.inUse[id]; old != nil {
			old.endsAt = a.config.Now() + RekeyLinger
			a.links.ending = append(a.links.ending, old)
		}
		a.links.inUse[id] = l
		a.changes.mesh = true
		a.config.Log.Info("hand-on sealed", "node", l.peer.Name)
		return
	}
	a.rejects.count("confirm-unknown")
}

// endLink forgets a link and its keys.
func (a *Agent) endLink(l *nodeLink) {
	for _, p := range l.pairs() {
		p.Out.Stop()
	}
	l.machine.Wipe()
	id := l.peer.ID
	if a.links.coming[id] == l {
		delete(a.links.coming, id)
	}
	if a.links.inUse[id] == l {
		delete(a.links.inUse, id)
	}
	kept := a.links.ending[:0]
	for _, other := range a.links.ending {
		if other != l {
			kept = append(kept, other)
		}
	}
	a.links.ending = kept
	a.changes.mesh = true
}
