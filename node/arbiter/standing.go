package arbiter

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// standing is what one server's copy of the log is worth now. Raft itself does
// not ask: it commits a new vote by the old quorum, and a sole voter would vote
// itself into one that it cannot reach.
type standing int

const (
	unheard    standing = iota // it has no stream, or was not looked at yet
	unwritten                  // its disk does not take entries
	unanswered                 // its Raft port does not answer this node
	older                      // it cannot read what the log may hold by now
	behind                     // it answers, and lacks entries
	apart                      // it answers this node, and does not reach another voter
	fit
)

// replica is a server's standing and for how long it was bad.
type replica struct {
	standing standing
	lost     spell  // without a stream, and no other node hears it
	shut     spell  // with one, and its Raft port does not answer
	lame     spell  // not fit, for whatever reason
	unfit    string // why it could not take over, and what mends that; empty while it is merely silent, or has only come back
	told     bool   // in the log of this node
}

// standingOf judges a server by this node's own questions and by what the server
// says of itself. An older build says nothing: the questions alone must do.
func (a *Arbiter) standingOf(id identity.NodeID) standing {
	n := a.nodes[id]
	switch {
	case id == a.config.Trust.Key.ID():
		return fit
	case n == nil:
		return unheard
	case n.disk != "":
		return unwritten
	case !a.config.Answers(id):
		return unanswered
	case a.newest && n.hello.Reads < registry.CommandVersion:
		return older
	case n.replica == nil && a.config.Now()-n.openedAt < ReplicaWithin:
		return behind
	case n.replica == nil:
		return fit
	case n.replica.Term != a.term || n.replica.Applied+MaxBehind < a.config.Store.Stats().Commit:
		return behind
	case len(a.unreachedBy(n.replica)) > 0:
		return apart
	}
	return fit
}

// unreachedBy are the voters that a server does not reach, though this node does.
func (a *Arbiter) unreachedBy(r *protocol.Replica) (voters []identity.NodeID) {
	for _, server := range a.config.Store.Servers() {
		answers := server.ID == a.config.Trust.Key.ID() || a.config.Answers(server.ID)
		if server.Voter && answers && slices.Contains(r.Unreached, server.ID) {
			voters = append(voters, server.ID)
		}
	}
	return voters
}

// lookAtReaders notes which commands every server of the log reads. With each stream that
// opens: a crowd that comes back to a new arbiter is there as soon as the nodes are.
func (a *Arbiter) lookAtReaders() {
	a.newest = a.newest || a.reads(registry.CommandVersion)
	a.judge.TakesBatches(a.reads(batchVersion))
	a.judge.GrantsOnResume(a.reads(regrantVersion))
}

// lookAtReplicas judges every server of the log once, and forgets all others.
func (a *Arbiter) lookAtReplicas() {
	now := a.config.Now()
	a.lookAtReaders()
	seen := make(map[identity.NodeID]replica)
	for _, server := range a.config.Store.Servers() {
		r := a.replicas[server.ID]
		r.standing = a.standingOf(server.ID)
		r.lost = r.lost.look(now, a.silent(server.ID))
		r.shut = r.shut.look(now, r.standing == unanswered)
		r.lame = r.lame.look(now, r.standing != fit)
		r.unfit = a.unfit(server.ID, r)
		r.told = r.told && r.lame != spell{}
		if !r.told && r.shown() {
			r.told = true
			a.config.Log.Warn("a server of the log could not take over", "node", a.nodeName(server.ID), "voter", server.Voter, "because", r.unfit)
		}
		seen[server.ID] = r
	}
	a.replicas, a.mustRead = seen, a.readByAll(seen)
}

// shown says that an operator is told why a server could not take over.
func (r replica) shown() bool { return r.unfit != "" && r.lame.total >= StandbyPatience }

// unfit puts a standing into words.
func (a *Arbiter) unfit(id identity.NodeID, r replica) string {
	if r.lost.flaps() || r.lame.flaps() && (r.standing == unheard || r.standing == fit) {
		return a.nodeName(id) + " comes and goes: see the log of its daemon there (journalctl -u meshcrypt), and its network"
	}
	switch r.standing {
	case unanswered:
		return fmt.Sprintf("%s does not answer %s: let TCP port %d in on %s", a.nodeName(id), a.nodeName(a.config.Trust.Key.ID()),
			a.raftPort(id), a.nodeName(id))
	case unwritten:
		return fmt.Sprintf("on %s the disk below %s", a.nodeName(id), a.nodes[id].disk)
	case apart:
		other := a.unreachedBy(a.nodes[id].replica)[0]
		return fmt.Sprintf("%s does not reach %s: let TCP port %d in on %s", a.nodeName(id), a.nodeName(other), a.raftPort(other), a.nodeName(other))
	case older:
		return a.tooOldWords(id)
	case behind:
		if a.config.Now()-a.nodes[id].openedAt < StandbyPatience {
			return "" // it has only come back
		}
		return a.nodeName(id) + " has not the whole log yet; it gets it by itself"
	}
	return ""
}

// raftPort is the one TCP port of a node.
func (a *Arbiter) raftPort(id identity.NodeID) (port uint16) {
	a.config.Store.View(func(s *registry.State) {
		if n := s.Nodes[id]; n != nil {
			port = n.Outer.Port()
		}
	})
	return port
}

// miss says that one of two servers does not reach the other.
func (a *Arbiter) miss(x, y identity.NodeID) bool {
	said := func(of, other identity.NodeID) bool {
		n := a.nodes[of]
		return n != nil && n.replica != nil && slices.Contains(n.replica.Unreached, other)
	}
	return said(x, y) || said(y, x)
}

// electorate is the Raft configuration, judged.
type electorate struct {
	voters   int
	good     int // voters that stay
	bad      []identity.NodeID
	standbys []identity.NodeID // fit, not leaving
	waiting  []identity.NodeID // standbys that may soon be fit
	useless  []identity.NodeID // standbys that will not be
	known    map[identity.NodeID]bool
}

// judgeElectorate sorts the servers. A voter is bad when it leaves or was
// removed, or is silent for VoterSilence, confirmed by another node, or does not
// answer at its Raft port for as long. A standby that comes and goes gets no vote
// while it does.
func (a *Arbiter) judgeElectorate() electorate {
	e := electorate{known: make(map[identity.NodeID]bool)}
	servers := a.config.Store.Servers()
	for _, server := range servers {
		e.known[server.ID] = true
	}
	_, another := a.candidate(e.known)
	for _, server := range servers {
		_, leaving := a.leavers[server.ID]
		r := a.replicas[server.ID]
		gone := leaving || !a.listed(server.ID) || r.lost.lasts(VoterSilence)
		switch {
		case server.Voter:
			e.voters++
			if gone || r.shut.lasts(VoterSilence) {
				e.bad = append(e.bad, server.ID)
			} else {
				e.good++
			}
		case gone, another && (r.shut.lasts(StandbyPatience) || r.lame.lasts(VoterSilence)):
			e.useless = append(e.useless, server.ID)
		case r.standing == fit && !r.lame.flaps() && !r.lost.flaps():
			e.standbys = append(e.standbys, server.ID)
		case a.nodes[server.ID] != nil && !r.lame.lasts(VoterSilence):
			e.waiting = append(e.waiting, server.ID)
		}
	}
	a.sortBad(e.bad)
	return e
}

// sortBad puts who leaves before who is merely silent, and this node last.
func (a *Arbiter) sortBad(bad []identity.NodeID) {
	rank := func(id identity.NodeID) int {
		switch _, leaving := a.leavers[id]; {
		case id == a.config.Trust.Key.ID():
			return 2
		case leaving || !a.listed(id):
			return 0
		}
		return 1
	}
	slices.SortStableFunc(bad, func(x, y identity.NodeID) int { return cmp.Compare(rank(x), rank(y)) })
}

// silent says that a server has no stream and that no other node says it hears it.
func (a *Arbiter) silent(id identity.NodeID) bool {
	if a.nodes[id] != nil {
		return false
	}
	for _, n := range a.nodes {
		if n.silent[id] {
			return true
		}
	}
	return len(a.nodes) < 2 // nobody else to confirm it
}

// passOver keeps a node from being asked again for PassOver, or until its next
// stream has lasted for Recovered.
func (a *Arbiter) passOver(id identity.NodeID) { a.passed[id] = a.config.Now() }

func (a *Arbiter) passedOver(id identity.NodeID) bool {
	at, passed := a.passed[id]
	if n := a.nodes[id]; n != nil && n.openedAt >= at && a.config.Now()-n.openedAt >= Recovered {
		return false
	}
	return passed && a.config.Now()-at < PassOver
}
