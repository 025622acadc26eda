package arbiter

import (
	"fmt"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// tellKnown tells all nodes how far the log is committed, when it went on. What they keep
// of it holds voters to it that were put back to an older disk. A revocation is told at
// once, and to be kept at once: it must not be undone by a loss of power a second later.
func (a *Arbiter) tellKnown(now time.Duration) {
	stats := a.config.Store.Stats()
	denied := a.known != nil && stats.Denied > a.known.Index || a.known == nil && stats.Denied > 0
	if now-a.knownAt < KnownEvery && !denied || !stats.Leader || stats.Term != a.term || a.known != nil && stats.Commit == a.known.Index {
		return
	}
	a.knownAt = now
	// What a stream has yet to write never changes.
	a.known = new(protocol.SignKnown(a.config.Trust.Key, a.cluster.ID, a.fence, stats.Commit, stats.By))
	a.known.Keep = denied
	for _, n := range a.nodes {
		n.Say(&protocol.Node{Known: a.known})
	}
}

// hearKnown holds what a node was told, by this arbiter or another, against the log. Where
// that lacks it, voters led that did not have it, and it is gone but for what its holder
// keeps.
func (a *Arbiter) hearKnown(n *nodeStream) {
	k := n.hello.Known
	if k == nil || !a.config.Store.Misses(consensus.Known{Incarnation: k.Incarnation, Term: k.Term, Index: k.Index, By: string(k.Leadership)}) || !a.believes(*k) {
		return
	}
	a.missed = fmt.Sprintf("%s was told of changes, up to %d.%d, that the registry has no more: a voter was put back to an older disk while another one was down. "+
		"Look at what was revoked lately (meshcrypt client list, meshcrypt ca show, meshcrypt members); a voter that was down then has them, so start it, and read its status",
		a.nodeName(n.node), k.Term, k.Index)
	a.config.Log.Error("changes that were committed are gone: a voter was put back to an older disk", "node", a.nodeName(n.node), "term", k.Term, "index", k.Index)
}

// believes says that a node which may be an arbiter said it.
func (a *Arbiter) believes(k protocol.Known) (so bool) {
	a.config.Store.View(func(s *registry.State) {
		by := s.Nodes[k.By.ID()]
		so = by != nil && by.May&registry.RoleVoter != 0
	})
	return so && k.Genuine(a.cluster.ID)
}
