package arbiter

import (
	"context"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// A replica that meets a command which it cannot read stops, and its daemon with it. So
// nobody is asked to keep a log that he may not be able to read.

// readByAll is the version of commands that who keeps the log has to read. It is the
// newest, for that is written as soon as every server reads it; but while one reads
// less that has all of the log, the log holds nothing newer than that one reads.
func (a *Arbiter) readByAll(seen map[identity.NodeID]replica) byte {
	least := byte(registry.CommandVersion)
	if a.newest {
		return least
	}
	for _, server := range a.config.Store.Servers() {
		n := a.nodes[server.ID]
		if r, known := seen[server.ID]; n != nil && known && r.standing == fit {
			least = min(least, n.hello.Reads)
		}
	}
	return least
}

// tooOld says that a connected node cannot read what the log may hold.
func (a *Arbiter) tooOld(id identity.NodeID) bool {
	n := a.nodes[id]
	return n != nil && id != a.config.Trust.Key.ID() && n.hello.Reads < a.mustRead
}

func (a *Arbiter) tooOldWords(id identity.NodeID) string {
	return a.nodeName(id) + " is of an older build and cannot keep the log: upgrade it"
}

// reportOlder names the members that may vote and are too old for it.
func (a *Arbiter) reportOlder(unfit map[identity.NodeID]string) {
	var all []identity.NodeID
	a.config.Store.View(func(s *registry.State) {
		for _, n := range s.Members() {
			if n.May&registry.RoleVoter != 0 {
				all = append(all, n.ID)
			}
		}
	})
	for _, id := range all {
		if a.tooOld(id) && !a.inRaft(id) {
			unfit[id] = a.tooOldWords(id)
		}
	}
}

// Older names the servers of the log that cannot read the newest commands, and those
// that were not heard yet in this term and may be such.
func (a *Arbiter) Older(ctx context.Context) (older, unheard []string, err error) {
	return older, unheard, a.ask(ctx, func() {
		below, unknown := a.readersBelow(registry.CommandVersion)
		older, unheard = a.nodeNames(below), a.nodeNames(unknown)
	})
}

func (a *Arbiter) nodeNames(ids []identity.NodeID) (names []string) {
	for _, id := range ids {
		names = append(names, a.nodeName(id))
	}
	slices.Sort(names)
	return names
}
