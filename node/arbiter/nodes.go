package arbiter

import (
	"cmp"
	"context"
	"crypto/tls"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// nodeStream is one node's connection. What stands below the stream is the loop's.
type nodeStream struct {
	*loop.Stream[protocol.Node]
	node    identity.NodeID
	hello   protocol.NodeHello
	prekeys map[uint32]mka.SignedPrekey
	load    float64
	usage   map[sliceKey]moved
	told    bool // the whole view: from then on differences are enough
	keeps   bool // the log, or was asked to
	silent  map[identity.NodeID]bool
	replica *protocol.Replica // what it said last of its copy of the log; nil: nothing
	// openedAt is when the stream became the node's.
	openedAt time.Duration
	linked   map[identity.NodeID]time.Duration    // peers it was given an SA with, and when
	asked    map[registry.SessionID]time.Duration // sessions that are over and that it may hold SAs of, and when
	fault    string                               // why it says that it does not forward
	disk     string                               // what it says is wrong with its disk
	lack     string                               // what it says it lacks to open more connections
	clock    time.Duration                        // what its wall clock shows, see shows; 0: not told
}

// serveNode reads one node's stream until it ends.
func (a *Arbiter) serveNode(ctx context.Context, raw *tls.Conn) {
	defer raw.Close()
	peer, err := a.config.Trust.Peer(rawCerts(raw))
	if err != nil {
		return
	}
	stream := loop.New(raw, protocol.NewStream, loop.Nodes(), MaxOutbox)
	m, err := stream.Read()
	if err != nil || m.Hello == nil {
		a.config.Log.Warn("node stream without introduction", "node", peer.Node.Short(), "error", err)
		return
	}
	if m.Hello.Beats {
		stream.Beats()
	}
	n := &nodeStream{
		Stream: stream, node: peer.Node, hello: *m.Hello,
		prekeys: make(map[uint32]mka.SignedPrekey),
		usage:   make(map[sliceKey]moved),
		silent:  make(map[identity.NodeID]bool),
	}
	a.must(ctx, nodeOpened{n})
	err = stream.Run(ctx, func(m *protocol.Node) bool { return a.must(ctx, a.nodeEvent(n, m)) })
	a.config.Log.Debug("node stream ended", "node", peer.Node.Short(), "error", err)
	a.must(ctx, nodeClosed{n})
}

func rawCerts(conn *tls.Conn) [][]byte {
	var raw [][]byte
	for _, cert := range conn.ConnectionState().PeerCertificates {
		raw = append(raw, cert.Raw)
	}
	return raw
}

type nodeOpened struct{ n *nodeStream }

// apply makes the newest stream the node's only one: fence first, then all it
// has to know, then the arbitrator hears of it.
func (e nodeOpened) apply(a *Arbiter) {
	n := e.n
	if a.isOver(n) {
		a.turnOut(n)
		return
	}
	if old := a.nodes[n.node]; old != nil {
		a.supersede(old, n.hello.Boot)
	}
	a.pushViews() // so that the book has all the node's sessions
	a.nodes[n.node], a.book.stale[n.node] = n, true
	n.openedAt = a.config.Now()
	delete(a.expelled, n.node)
	a.lookAtReaders()
	n.Say(&protocol.Node{Fence: &a.fence, Trunks: true, Calls: true})
	a.hearKnown(n)
	a.reconcile(n)
	a.step(session.NodeUp{Node: n.node, Boot: n.hello.Boot})
	a.takeCondition(n, n.hello.Condition)
	a.pushViews()
	if a.known != nil {
		n.Say(&protocol.Node{Known: a.known}) // believed of a member, and a first view tells who is one
	}
	a.config.Log.Info("node is up", "node", a.nodeName(n.node), "version", n.hello.Version)
	if older, _ := a.readersBelow(exposedVersion); n.hello.Exposed && len(older) > 0 {
		a.config.Log.Warn("strangers reach a node's inside interface, and what is handed on there is not sealed while a voter is of an older build: upgrade it", "node", a.nodeName(n.node))
	}
	if !n.hello.Judges {
		a.config.Log.Warn("a node does not hold clients to their prefixes: upgrade it", "node", a.nodeName(n.node), "version", n.hello.Version)
	}
}

// reconcile brings the registry's facts of the node up to date, and tells the
// arbitrator of slices whose keys the node no longer has.
func (a *Arbiter) reconcile(n *nodeStream) {
	held := make(map[sliceKey]bool, len(n.hello.Held))
	for _, r := range n.hello.Held {
		held[keyOf(r)] = true
	}
	var lost []session.SliceSilent
	h := n.hello
	a.config.Store.View(func(s *registry.State) {
		for _, ref := range a.slicesOf(s, n.node, h.Boot) {
			if !held[keyOf(ref)] {
				lost = append(lost, session.SliceSilent{Session: ref.Session, Number: ref.Number, Epoch: ref.Epoch, Gone: true})
			}
		}
	})
	a.updateNode(n)
	for _, l := range lost {
		a.step(l)
	}
}

// exposedVersion is that of the commands that tell of inside interfaces which
// strangers reach.
const exposedVersion = 4

// updateNode commits what the node says of itself, where the registry says something
// else. That strangers reach its inside interface waits until every replica can read
// it: an older one would stop at it, and with it the mesh.
func (a *Arbiter) updateNode(n *nodeStream) {
	h, differs := n.hello, false
	exposed := h.Exposed && a.reads(exposedVersion)
	a.config.Store.View(func(s *registry.State) {
		row := s.Nodes[n.node]
		if row == nil {
			return
		}
		exposed = exposed || h.Exposed && row.Exposed
		differs = row.Outer != h.Outer || row.Other != h.Other || row.Inside != h.Inside || row.Capacity != h.Capacity ||
			row.Mbit != h.Mbit || row.Boot != h.Boot || row.Exposed != exposed || !slices.Equal(row.Networks, h.Networks)
	})
	if differs {
		a.submit(proposal{command: registry.Command{ID: a.commandID(), UpdateNode: &registry.UpdateNode{
			ID: n.node, Boot: h.Boot, Outer: h.Outer, Other: h.Other, Inside: h.Inside, Networks: h.Networks,
			Capacity: h.Capacity, Mbit: h.Mbit, Exposed: exposed,
		}}})
	}
}

// tellExposed makes up for what waited for older replicas.
func (a *Arbiter) tellExposed() {
	for _, n := range a.nodes {
		if n.hello.Exposed {
			a.updateNode(n)
		}
	}
}

type nodeClosed struct{ n *nodeStream }

func (e nodeClosed) apply(a *Arbiter) {
	if a.nodes[e.n.node] != e.n {
		return
	}
	delete(a.nodes, e.n.node)
	a.book.stale[e.n.node] = true
	a.step(session.NodeDown{Node: e.n.node, Boot: e.n.hello.Boot})
	a.config.Log.Info("node is down", "node", a.nodeName(e.n.node))
	a.pushViews()
}

// nodeSaid is a message of a node's stream.
type nodeSaid struct {
	n *nodeStream
	m *protocol.Node
}

// prekeysCame are prekeys that were looked at off the loop.
type prekeysCame struct {
	n     *nodeStream
	fresh bool // nothing given before is to be granted any more
	keys  map[uint32]mka.SignedPrekey
}

// nodeEvent does the expensive part of a message outside the loop. Of the signatures of
// prekeys that come together it checks one, which shows an agent that signs wrongly: that
// they are the agent's says its stream, and who agrees on keys by one checks its own.
func (a *Arbiter) nodeEvent(n *nodeStream, m *protocol.Node) event {
	if m.Prekeys == nil {
		return nodeSaid{n, m}
	}
	keys := make(map[uint32]mka.SignedPrekey)
	for i, signed := range m.Prekeys.Keys {
		read := mka.ReadPrekey
		if i == 0 {
			read = mka.ParsePrekey
		}
		p, err := read(signed)
		if err != nil || p.Agent != n.node || p.Boot != n.hello.Boot {
			a.config.Log.Warn("prekey refused", "node", n.node.Short(), "error", err)
			continue
		}
		keys[p.SPI] = signed
	}
	return prekeysCame{n, m.Prekeys.Fresh, keys}
}

func (e prekeysCame) apply(a *Arbiter) {
	if a.nodes[e.n.node] != e.n {
		return
	}
	if e.fresh {
		clear(e.n.prekeys)
		// For the arbitrator too the pool starts empty, as with a new stream.
		a.step(session.NodeUp{Node: e.n.node, Boot: e.n.hello.Boot})
	}
	var spis []uint32
	for spi, signed := range e.keys {
		if len(e.n.prekeys) < MaxPrekeysEach {
			e.n.prekeys[spi] = signed
			spis = append(spis, spi)
		}
	}
	a.step(session.Prekeys{Node: e.n.node, SPIs: spis})
}

// apply passes on what a node said, as an event of the arbitrator.
func (e nodeSaid) apply(a *Arbiter) {
	n := e.n
	if e.m.Superseded != nil {
		a.twoHosts(n)
		return
	}
	if a.nodes[n.node] != n {
		return
	}
	if e.m.Gone != nil {
		delete(n.usage, keyOf(*e.m.Gone))
	}
	switch m := e.m; {
	case m.Load != nil:
		n.load = m.Load.Used
		a.takeWord(n, &n.disk, m.Load.Disk, "a node's disk fails", "a node's disk is well again")
		a.takeWord(n, &n.lack, m.Load.Lack, "a node can open no more connections", "a node can open connections again")
		if m.Load.Wall != 0 {
			n.clock = a.shows(time.UnixMilli(m.Load.Wall))
		}
		a.step(session.Load{Node: n.node, Used: n.load, Capacity: n.hello.Capacity, Mbit: n.hello.Mbit})
	case m.Ack != nil:
		a.acknowledged(n, m.Ack)
	case m.Up != nil && a.carries(n, *m.Up):
		n.heardClient(*m.Up)
		a.step(session.SliceUp{Session: m.Up.Session, Number: m.Up.Number, Epoch: m.Up.Epoch})
	case m.Gone != nil && a.carries(n, *m.Gone):
		a.step(session.SliceSilent{Session: m.Gone.Session, Number: m.Gone.Number, Epoch: m.Gone.Epoch, Gone: true})
	case m.Silent != nil:
		n.silent[m.Silent.Node] = m.Silent.Silent
	case m.Replica != nil:
		n.replica = m.Replica
	case m.TakeOver != nil:
		a.takeOver(n, m.TakeOver)
	case m.Usage != nil:
		a.takeUsage(n, m.Usage)
	case m.Violation != nil:
		a.flagged(n.node, m.Violation)
	case m.Drain != nil:
		a.step(session.Drain{Node: n.node, On: m.Drain.On})
	case m.Link != nil:
		a.link(n, m.Link)
	case m.Freed != nil:
		a.freed(n, m.Freed)
	case m.Condition != nil:
		a.takeCondition(n, m.Condition)
		a.pushViews() // the others name its faults
	case m.Inside != nil:
		n.hello.Exposed = m.Inside.Exposed
		a.updateNode(n)
	case m.Leave != nil:
		a.beginLeave(n.node)
	case m.Assure != nil:
		n.Say(&protocol.Node{Assure: m.Assure})
	}
}

// moved is what is kept of a slice's usage: its key says whose it is.
type moved struct{ in, out, refused, quiet uint64 }

// heardClient notes that a slice's client was heard just now, which its agent says of one that came
// up: its next usage may be seconds away, and who asks meanwhile would take it for a slice that no
// agent told of.
func (n *nodeStream) heardClient(ref protocol.SliceRef) {
	told := n.usage[keyOf(ref)]
	told.quiet = 1
	n.usage[keyOf(ref)] = told
}

// takeUsage keeps what an agent's slices moved, and passes on when it heard their
// clients; of sessions that it may run no SA of its word is nothing. Of a build that does not
// tell every client counts as heard.
func (a *Arbiter) takeUsage(n *nodeStream, m *protocol.Usage) {
	if !m.Changes {
		clear(n.usage) // it names every slice that the agent holds
	}
	var parked []registry.SessionID
	ago := make(map[registry.SessionID]time.Duration)
	for _, u := range a.keepHeld(n, m.Slices) {
		quiet := time.Duration(min(u.Quiet, maxQuiet)) * time.Second
		if least, other := ago[u.Slice.Session]; !other || quiet < least {
			ago[u.Slice.Session] = quiet
		}
		if a.hearParked(n, &u, !m.Changes) {
			parked = append(parked, u.Slice.Session)
		}
	}
	a.step(session.Heard{Ago: ago, Parked: parked})
}

// keepHeld keeps what an agent's slices moved, and returns those whose sessions it has a slice of,
// or had one: the keys of that may run there still. A row is kept for a slice that there is: of
// epochs that an agent makes up there would be rows without bound.
func (a *Arbiter) keepHeld(n *nodeStream, all []protocol.SliceUsage) (held []protocol.SliceUsage) {
	ours := func(sl registry.Slice) bool { return sl.Agent == n.node }
	a.config.Store.View(func(s *registry.State) {
		for _, u := range all {
			live := s.Sessions.Get(u.Slice.Session)
			if live == nil {
				continue
			}
			is := func(sl registry.Slice) bool {
				return ours(sl) && sl.Number == u.Slice.Number && sl.Epoch == u.Slice.Epoch
			}
			if slices.ContainsFunc(live.Slices, is) || slices.ContainsFunc(live.Retiring, is) {
				n.usage[keyOf(u.Slice)] = moved{u.In, u.Out, u.Refused, u.Quiet}
			}
			if slices.ContainsFunc(live.Slices, ours) || slices.ContainsFunc(live.Retiring, ours) ||
				slices.ContainsFunc(live.Holders, func(h registry.Holder) bool { return h.Agent == n.node }) {
				held = append(held, u)
			}
		}
	})
	return held
}

// carries reports whether a slice epoch is this node's to speak of.
func (a *Arbiter) carries(n *nodeStream, ref protocol.SliceRef) (is bool) {
	a.config.Store.View(func(s *registry.State) {
		live := s.Sessions.Get(ref.Session)
		is = live != nil && slices.ContainsFunc(live.Slices, func(sl registry.Slice) bool {
			return sl.Number == ref.Number && sl.Epoch == ref.Epoch && sl.Agent == n.node
		})
	})
	return is
}

func (a *Arbiter) acknowledged(n *nodeStream, ack *protocol.SliceAck) {
	e := session.SliceAck{Node: n.node, Session: ack.Slice.Session, Number: ack.Slice.Number, Epoch: ack.Slice.Epoch}
	if !ack.Ok {
		e.Refused = "refused"
		if ack.Reason != "" {
			e.Refused = ack.Reason
		}
	}
	a.step(e)
}

// takeOver passes on a second's word if it spoke of the part's present epoch.
func (a *Arbiter) takeOver(n *nodeStream, m *protocol.TakeOver) {
	current := false
	a.config.Store.View(func(s *registry.State) {
		for _, p := range s.Parts {
			current = current || (p.Prefix == m.Prefix && p.Epoch == m.Epoch)
		}
	})
	if current {
		a.step(session.Takeover{Node: n.node, Part: m.Prefix, Asked: m.Asked})
	}
}

// takeCondition passes on a node's word on itself; none is that of a whole one.
func (a *Arbiter) takeCondition(n *nodeStream, c *protocol.Condition) {
	is := session.Broken
	switch {
	case c == nil || c.Is == protocol.Whole:
		is = session.Whole
	case c.Is == protocol.Mended:
		is = session.Mended
	}
	n.fault, a.book.stale[n.node] = "", true
	if is == session.Broken {
		n.fault = strings.Join(c.Faults, "; ")
		n.fault = cmp.Or(n.fault[:min(len(n.fault), MaxFault)], "it does not say why")
	}
	a.step(session.Condition{Node: n.node, Is: is})
}

// takeWord keeps a node's word on its host, and tells all nodes when that changes.
func (a *Arbiter) takeWord(n *nodeStream, kept *string, says, fails, well string) {
	says = says[:min(len(says), MaxFault)]
	if *kept == says {
		return
	}
	*kept, a.book.stale[n.node] = says, true
	if says == "" {
		a.config.Log.Info(well, "node", a.nodeName(n.node))
	} else {
		a.config.Log.Warn(fails, "node", a.nodeName(n.node), "says", says)
	}
	a.pushViews()
}

// keepPart tells a second that its takeover is not confirmed.
func (a *Arbiter) keepPart(k session.KeepPart) {
	if n := a.nodes[k.Node]; n != nil {
		n.Say(&protocol.Node{View: &protocol.View{Keep: []netip.Prefix{k.Part}}})
	}
}

// sayAlive is the word that keeps headless time from running. To clients that hear beats
// those are it.
func (a *Arbiter) sayAlive() {
	for _, n := range a.nodes {
		n.Say(&protocol.Node{Alive: &protocol.Alive{}})
	}
	for _, c := range a.clients {
		if c.session != (registry.SessionID{}) && !c.Beating() { // the first word to a client is its answer
			c.Say(&protocol.Client{Alive: &protocol.Alive{}})
		}
	}
}

// closeStreams ends every connection of the term.
func (a *Arbiter) closeStreams() {
	for _, n := range a.nodes {
		n.Close()
	}
	for _, c := range a.clients {
		c.Close()
	}
}
