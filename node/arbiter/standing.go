package arbiter

import (
	"cmp"
	"fmt"
	"slices"
	"time"

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
	unanswered                 // its Raft port does not answer this node
	older                      // it cannot read what the log may hold by now
	behind                     // it answers, and lacks entries
	apart                      // it answers this node, and does not reach another voter
	fit
)

// replica is a server's standing and since when it lasts.
type replica struct {
	standing standing
	since    time.Duration
	unfit    string // why it could not take over though it is connected, and what mends that
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

// lookAtReplicas judges every server of the log once, and forgets all others.
func (a *Arbiter) lookAtReplicas() {
	now := a.config.Now()
	a.newest = a.newest || a.reads(registry.CommandVersion)
	seen := make(map[identity.NodeID]replica)
	for _, server := range a.config.Store.Servers() {
		r := replica{standing: a.standingOf(server.ID), since: now}
		r.unfit = a.unfit(server.ID, r.standing)
		if last, known := a.replicas[server.ID]; known && last.standing == r.standing {
			r.since, r.told = last.since, last.told
		}
		if r.unfit != "" && !r.told && now-r.since >= StandbyPatience {
			r.told = true
			a.config.Log.Warn("a server of the log could not take over", "node", a.nodeName(server.ID), "voter", server.Voter, "because", r.unfit)
		}
		seen[server.ID] = r
	}
	a.replicas, a.mustRead = seen, a.readByAll(seen)
}

// unfit puts a standing into words.
func (a *Arbiter) unfit(id identity.NodeID, s standing) string {
	switch s {
	case unanswered:
		return fmt.Sprintf("%s does not answer %s: let TCP port %d in on %s", a.nodeName(id), a.nodeName(a.config.Trust.Key.ID()),
			a.raftPort(id), a.nodeName(id))
	case apart:
		other := a.unreachedBy(a.nodes[id].replica)[0]
		return fmt.Sprintf("%s does not reach %s: let TCP port %d in on %s", a.nodeName(id), a.nodeName(other), a.raftPort(other), a.nodeName(other))
	case older:
		return a.tooOldWords(id)
	case behind:
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

// unfitFor says that a connected server could not take over for so long already.
func (a *Arbiter) unfitFor(id identity.NodeID, d time.Duration) bool {
	r, known := a.replicas[id]
	return known && r.unfit != "" && a.config.Now()-r.since >= d
}

// miss says that one of two servers does not reach the other.
func (a *Arbiter) miss(x, y identity.NodeID) bool {
	said := func(of, other identity.NodeID) bool {
		n := a.nodes[of]
		return n != nil && n.replica != nil && slices.Contains(n.replica.Unreached, other)
	}
	return said(x, y) || said(y, x)
}

// standsFor says that a server's standing is this one for so long already.
func (a *Arbiter) standsFor(id identity.NodeID, s standing, d time.Duration) bool {
	r, known := a.replicas[id]
	return known && r.standing == s && a.config.Now()-r.since >= d
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
// answer at its Raft port for as long.
func (a *Arbiter) judgeElectorate() electorate {
	e := electorate{known: make(map[identity.NodeID]bool)}
	servers := a.config.Store.Servers()
	for _, server := range servers {
		e.known[server.ID] = true
	}
	_, another := a.candidate(e.known)
	for _, server := range servers {
		_, leaving := a.leavers[server.ID]
		gone := leaving || !a.listed(server.ID) || a.silentFor(server.ID)
		switch {
		case server.Voter:
			e.voters++
			if gone || a.standsFor(server.ID, unanswered, VoterSilence) {
				e.bad = append(e.bad, server.ID)
			} else {
				e.good++
			}
		case gone, another && (a.standsFor(server.ID, unanswered, StandbyPatience) || a.unfitFor(server.ID, VoterSilence)):
			e.useless = append(e.useless, server.ID)
		case a.replicas[server.ID].standing == fit:
			e.standbys = append(e.standbys, server.ID)
		case a.nodes[server.ID] != nil && !a.unfitFor(server.ID, VoterSilence):
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

// silentFor says that a server has had no stream for VoterSilence and that no
// other node says it hears it.
func (a *Arbiter) silentFor(id identity.NodeID) bool {
	now := a.config.Now()
	if a.nodes[id] != nil {
		delete(a.lostAt, id)
		return false
	}
	if _, known := a.lostAt[id]; !known {
		a.lostAt[id] = now
	}
	if now-a.lostAt[id] < VoterSilence {
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
// stream.
func (a *Arbiter) passOver(id identity.NodeID) { a.passed[id] = a.config.Now() }

func (a *Arbiter) passedOver(id identity.NodeID) bool {
	at, passed := a.passed[id]
	return passed && a.config.Now()-at < PassOver
}
