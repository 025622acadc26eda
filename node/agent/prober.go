package agent

import (
	"cmp"
	"encoding/binary"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/said"
)

// proberState is what this node sees of the nodes it feeds or stands behind,
// over the inside network. It is owned by the control loop, but for path.
type proberState struct {
	peers    map[identity.Index]*peer
	sequence uint64
	pathSent uint64 // path tests that count, since the last one that came out
	path     pathVerdict
	tested   said.Line   // that it is good
	lost     atomic.Bool // nothing opened here goes on; read by packet workers
	own      ownLoad
	tests    int           // of this host's path, in each tick
	askedAt  time.Duration // when any node asked last
	judgedAt time.Duration // when the peers were judged last
	aloneAt  time.Duration // when all of several peers were silent; 0: never
}

// peer is one probed node.
type peer struct {
	heardAt time.Duration // its last answer; before any: when it was first asked
	askedAt time.Duration // its last question
	upAt    time.Duration // since when the arbiter hears it, as far as this node was told; 0: it does not
	says    probe.Says
	since   time.Duration // heard without a gap
	heard   bool          // since probing began: an unheard peer is not called silent
	silent  bool
	load    probe.Load
	// silences is how often that was said, named whether it was the last time.
	silences said.Line
	named    bool
	every    int // ticks between two questions to it
	// standsAt is since when it stands in for this node and is asked in turns; 0: it is not.
	standsAt time.Duration
	way      *pmtu.Search // what it takes whole; nil: not asked yet
	asked    [MaxAsked]question
	next     int // place of the next question
}

// question is one that may be answered, once.
type question struct {
	kind     byte // 0: it was
	sequence uint64
	size     int
	at       time.Duration
}

// ask remembers a question.
func (p *peer) ask(m probe.Node, now time.Duration) {
	p.asked[p.next] = question{m.Type, m.Sequence, m.Size, now}
	p.next = (p.next + 1) % MaxAsked
}

// answered reports whether a reply is to a question that this node was asked a
// moment ago, and that was not answered yet: anything else was recorded somewhere.
func (p *peer) answered(m probe.Node, now time.Duration) bool {
	for i := range p.asked {
		q := &p.asked[i]
		if q.kind != 0 && q.kind == m.Asked && q.sequence == m.Sequence && q.size == m.Size && now-q.at <= ReplyWithin {
			q.kind = 0
			return true
		}
	}
	return false
}

// answers reports whether the peer is heard now.
func (p *peer) answers() bool { return p.heard && !p.silent }

// asksStill reports whether the peer's questions arrive although its answers do not.
// One that came with the last answer shows nothing: a firewall may have shut after it.
func (p *peer) asksStill(now time.Duration) bool {
	return p.askedAt >= p.heardAt+AskedBeyond && now-p.askedAt <= AskedLately
}

// newProberState begins to count anywhere, so that an answer to one node is none to
// another.
func newProberState(random io.Reader) *proberState {
	p := &proberState{peers: make(map[identity.Index]*peer)}
	var first [8]byte
	if _, err := io.ReadFull(random, first[:]); err == nil { // a reader that fails lets no key be made either
		p.sequence = binary.BigEndian.Uint64(first[:])
	}
	return p
}

// silent reports whether a node stopped answering.
func (p *proberState) silent(index identity.Index) bool {
	peer := p.peers[index]
	return peer != nil && peer.silent
}

func (p *proberState) pathVerdict() probe.Verdict { return p.path.load() }

// answerVerdict is what clients hear.
func (p *proberState) answerVerdict() probe.Verdict {
	if p.lost.Load() {
		return probe.PathLost
	}
	return p.path.load()
}

func (p *proberState) ownLoad() probe.Load { return p.own.load() }

// loadOf is a node's load as last heard; full while nothing was.
func (p *proberState) loadOf(index identity.Index) float64 {
	if peer := p.peers[index]; peer != nil && peer.heard {
		return peer.load.Share()
	}
	return 1
}

// hearNodes takes what other nodes have said by now. A loop that was busy for longer than a
// node may be silent would else judge by the last it heard, while their answers wait. It is
// not for a process that stood still (see excuse): they may be of before.
func (a *Agent) hearNodes() {
	for range len(a.nodes) {
		e := <-a.nodes // this loop alone takes from it
		e.apply(a)
	}
}

// excuse leaves out of each silence how late this tick is: what this loop did not ask nobody
// answered. It is not for a process that stood still: others may have taken over what it held,
// and whoever is heard again is told what this node claims.
func (p *proberState) excuse(now time.Duration) {
	late := now - p.judgedAt - TickEvery
	if p.judgedAt == 0 || late <= 0 {
		return
	}
	for _, peer := range p.peers {
		peer.heardAt = min(peer.heardAt+late, now)
	}
}

// probe asks the nodes this one depends on, and its own plaintext path.
func (a *Agent) probe(now time.Duration) {
	if len(a.view.key) == 0 {
		return
	}
	wanted := a.probeTargets()
	for index := range a.probes.peers {
		if !wanted[index] {
			delete(a.probes.peers, index)
			a.changes.mesh = true
		}
	}
	a.probes.sequence++
	a.probes.judgedAt = now
	asked := a.asking(wanted)
	for index := range wanted {
		a.probes.peers[index].stands(a.view.nodes[index].Up, now)
		a.judge(a.view.nodes[index], now)
	}
	if a.alone() {
		a.probes.aloneAt = now
	}
	for _, index := range asked {
		if row := a.view.nodes[index]; !a.measureWay(row, now) {
			a.sendProbe(row, now)
		}
	}
	a.testPath(a.testers(), now)
}

// probeTargets are the agents this node hands on to, the egress it is second
// of and its own second; with none of these, one neighbour to test the path with.
func (a *Agent) probeTargets() map[identity.Index]bool {
	targets := make(map[identity.Index]bool)
	for index := range a.view.fed {
		targets[index] = true
	}
	for _, p := range a.view.parts {
		targets[a.view.nodeByID(p.row.Egress).Index] = true
		targets[a.view.nodeByID(p.row.Second).Index] = true
	}
	a.addVoters(targets)
	delete(targets, a.config.Index)
	delete(targets, 0)
	for index := range targets {
		if !a.view.nodes[index].Inside.IsValid() {
			delete(targets, index)
		}
	}
	if len(targets) == 0 {
		if n := a.neighbour(); n != 0 {
			targets[n] = true
		}
	}
	return targets
}

// addVoters are for an egress or a second of a mesh where it matters who is cut off:
// whoever probes one node alone takes that one's death for its own.
func (a *Agent) addVoters(targets map[identity.Index]bool) {
	own := a.config.Key.ID()
	for _, p := range a.view.parts {
		if p.row.Egress != own && p.row.Second != own || !a.quorum() {
			continue
		}
		for index, n := range a.view.nodes {
			if n.Voter {
				targets[index] = true
			}
		}
		return
	}
}

// neighbour is the next node by index, wrapping around.
func (a *Agent) neighbour() identity.Index {
	var after, lowest identity.Index
	for index, n := range a.view.nodes {
		if index == a.config.Index || !n.Inside.IsValid() {
			continue
		}
		if lowest == 0 || index < lowest {
			lowest = index
		}
		if index > a.config.Index && (after == 0 || index < after) {
			after = index
		}
	}
	if after != 0 {
		return after
	}
	return lowest
}

// stands notes whether the arbiter hears a peer.
func (p *peer) stands(up bool, now time.Duration) {
	switch {
	case !up:
		p.upAt = 0
	case p.upAt == 0:
		p.upAt = now
	}
}

func (a *Agent) sendProbe(to protocol.NodeRow, now time.Duration) {
	m := probe.Node{Type: probe.TypeNode, From: a.config.Index, Sequence: a.probes.sequence, Says: a.says(to)}
	a.probes.peers[to.Index].ask(m, now)
	b := m.Marshal(a.view.key)
	_ = a.config.Inside.Send(b, len(b), link.Path{Remote: netip.AddrPortFrom(to.Inside, a.config.InsidePort)}) // silence is judged, not errors
}

// judge calls a peer silent after ProbeMisses of its intervals, and tells the arbiter.
func (a *Agent) judge(row protocol.NodeRow, now time.Duration) {
	p := a.probes.peers[row.Index]
	silent := p.heard && (now-p.heardAt > p.patience() || p.quiet(now))
	if silent == p.silent {
		return
	}
	p.silent = silent
	a.changes.mesh = true
	p.logSilence(a.config.Log, row.Name, now)
	if !silent {
		a.contestWith(row, now)
	}
	a.say(&protocol.Node{Silent: &protocol.Silent{Node: row.ID, Silent: silent}})
}

// logSilence says that a node is silent or heard again, within bounds: on a starved host that
// goes on for as long as it starves.
func (p *peer) logSilence(log *slog.Logger, name string, now time.Duration) {
	if !p.silent {
		if p.named {
			log.Info("a node is heard again", "node", name)
		}
		return
	}
	var unsaid int
	if unsaid, p.named = p.silences.Say(now, SaidFree, SaidRate); p.named {
		log.Warn("a node is silent", append([]any{"node", name}, said.Left(unsaid)...)...)
	}
}

// testers are the nodes that are asked whether what this host forwards comes
// out: of those that answer, the ones that have answered longest, for their
// silence says something.
func (a *Agent) testers() (all []identity.Index) {
	for index, p := range a.probes.peers {
		if _, ok := a.view.testAddress(a.view.nodes[index].Inside); ok && p.answers() {
			all = append(all, index)
		}
	}
	slices.SortFunc(all, func(x, y identity.Index) int {
		return cmp.Or(cmp.Compare(a.probes.peers[x].since, a.probes.peers[y].since), cmp.Compare(x, y))
	})
	all = all[:min(len(all), MaxTesters)]
	if len(all) > a.probes.tests {
		return all[a.ticks%uint64(len(all)):][:1] // they take turns
	}
	return all
}

// testPath sends a datagram through our own TUN, from the pool's test address to
// other nodes: it comes out only if this host forwards (design 8). A test counts
// only if a tester has answered plain probes for a while, and does not say that
// its own host has a fault: one without a TUN drops what comes from the pool.
// Where both have faults each counts.
func (a *Agent) testPath(testers []identity.Index, now time.Duration) {
	counts := false
	for _, tester := range testers {
		p := a.probes.peers[tester]
		counts = counts || now-p.since >= PathSettle && (p.says&probe.SaysAiling == 0 || a.ailing)
		a.sendPathTest(tester, now)
	}
	switch {
	case len(testers) == 0:
		a.probes.pathSent = 0
		a.foundPath(probe.PathUnknown)
	case counts:
		a.probes.pathSent++
	default:
		a.probes.pathSent = 0
	}
	if a.probes.pathSent > PathMisses {
		a.foundPath(probe.PathBroken)
	}
}

func (a *Agent) sendPathTest(tester identity.Index, now time.Duration) {
	to := a.view.nodes[tester].Inside
	from, _ := a.view.testAddress(to)
	m := probe.Node{Type: probe.TypePath, From: a.config.Index, Sequence: a.probes.sequence}
	a.probes.peers[tester].ask(m, now)
	packet, err := probe.Packet(netip.AddrPortFrom(from, a.config.InsidePort), netip.AddrPortFrom(to, a.config.InsidePort), m.Marshal(a.view.key))
	if err == nil {
		err = a.config.Engine.Inject(packet)
	}
	if err != nil {
		a.config.Log.Debug("path test not sent", "error", err)
	}
}

// foundPath notes a verdict on this host's plaintext path; opened packets go
// another way when it changes.
func (a *Agent) foundPath(verdict probe.Verdict) {
	if !a.probes.path.store(verdict) {
		return
	}
	a.changes.mesh = true
	switch verdict {
	case probe.PathBroken:
		a.config.Log.Warn("this host does not forward packets from the TUN to the inside network",
			"next", "meshcrypt status shows what is in the way")
	case probe.PathGood:
		if unsaid, ok := a.probes.tested.Say(a.config.Now(), SaidFree, SaidRate); ok {
			a.config.Log.Info("plaintext path tested", append([]any{"verdict", verdict}, said.Left(unsaid)...)...)
		}
	case probe.PathUnknown:
	}
}

// sendReply answers as whole as it was asked; silence is judged, not errors.
func (a *Agent) sendReply(reply probe.Node, to protocol.NodeRow) {
	b, socket := reply.Marshal(a.view.key), a.config.Inside
	if reply.Size > probe.NodeLen && a.config.Whole != nil {
		socket = a.config.Whole
	}
	_ = socket.Send(b, len(b), link.Path{Remote: a.insideOf(to)})
}

// asked notes a question of a node: whoever gets one is not deaf.
func (a *Agent) asked(m probe.Node) {
	a.probes.askedAt = a.config.Now()
	if p := a.probes.peers[m.From]; p != nil {
		p.askedAt = a.config.Now()
		p.hears(m.Says, a)
	}
}

// hears takes what a peer says of itself.
func (p *peer) hears(says probe.Says, a *Agent) {
	if p.says != says {
		p.says, a.changes.mesh = says, true
	}
}

type nodeDatagram struct{ probe.Node }

// apply answers probes and notes replies; what no node sent is a counted drop, and so
// is an answer to what that node was not asked.
func (e nodeDatagram) apply(a *Agent) {
	m := e.Node
	if a.view.nodes[m.From].Index == 0 {
		a.rejects.count("probe-refused")
		return
	}
	row := a.view.nodes[m.From]
	if m.Type != probe.TypeReply {
		reply := probe.Node{Type: probe.TypeReply, From: a.config.Index, Asked: m.Type, Load: a.probes.ownLoad(), Sequence: m.Sequence, Size: m.Size}
		if m.Type == probe.TypeNode {
			reply.Says = a.says(row)
			a.asked(m)
		}
		a.sendReply(reply, row)
		return
	}
	p, now := a.probes.peers[m.From], a.config.Now()
	if p == nil || !p.answered(m, now) {
		a.rejects.count("probe-unasked")
		return
	}
	if m.Asked == probe.TypeNode {
		p.hears(m.Says, a)
	}
	if !p.answers() {
		p.since = now
	}
	a.footing.answer()
	if !p.heard {
		a.changes.mesh = true // a second that is heard may be handed on to
	}
	p.heard, p.heardAt, p.load = true, now, m.Load
	p.passed(m.Size, now)
	if m.Asked == probe.TypePath {
		a.probes.pathSent = 0
		a.foundPath(probe.PathGood)
	}
}
