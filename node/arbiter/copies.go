package arbiter

import (
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// A node's key belongs to one process at a time. Where a machine or a data directory
// was copied there are two, each with a boot of its own; if both were served in turn
// each would void what the other had just been given, for ever. So the newer one has
// the key, the boots before it are refused for good, and the process that runs under
// one stops carrying traffic. The arbiter itself gives way to nobody: who shows it its
// own key is the copy.

// copies is what is known of a node's processes that are over.
type copies struct {
	over map[identity.BootID]int // boots of before, and how often one came back
	// seenAt is when a process that is over was last found to run; 0: never.
	seenAt time.Duration
	seen   netip.AddrPort // the address it said it has
}

func (a *Arbiter) copiesOf(id identity.NodeID) *copies {
	c := a.copies[id]
	if c == nil {
		c = &copies{over: make(map[identity.BootID]int)}
		a.copies[id] = c
	}
	return c
}

// supersede makes a newer process of a node its only one. The older one hears of it, if
// it still runs somewhere; a restarted node's has ended.
func (a *Arbiter) supersede(old *nodeStream, newer identity.BootID) {
	if old.hello.Boot == newer {
		old.Close()
		return
	}
	c := a.copiesOf(old.node)
	if len(c.over) >= registry.MaxPastBoots {
		clear(c.over) // the registry remembers as many
	}
	c.over[old.hello.Boot] = 0
	old.dismiss()
}

// dismiss tells a process that another one runs with its key, as the last word.
func (n *nodeStream) dismiss() {
	n.Say(&protocol.Node{Superseded: &protocol.Superseded{}})
	n.Within(HelloWithin)
}

// isOver reports whether a stream is of a process that another one has superseded.
func (a *Arbiter) isOver(n *nodeStream) (over bool) {
	boot := n.hello.Boot
	if n.node == a.config.Trust.Key.ID() && a.config.Boot != (identity.BootID{}) {
		return boot != a.config.Boot
	}
	a.config.Store.View(func(s *registry.State) {
		row := s.Nodes[n.node]
		over = row != nil && slices.Contains(row.PastBoots, boot)
	})
	if c := a.copies[n.node]; c != nil && !over {
		_, over = c.over[boot]
	}
	return over
}

// turnOut refuses such a stream. What a process sent before it ended may come late, so
// one alone is no second host: it is one that answers, or comes back.
func (a *Arbiter) turnOut(n *nodeStream) {
	n.Say(&protocol.Node{Fence: &a.fence})
	n.dismiss()
	c := a.copiesOf(n.node)
	if _, known := c.over[n.hello.Boot]; !known && len(c.over) >= registry.MaxPastBoots {
		clear(c.over)
	}
	if c.over[n.hello.Boot]++; c.over[n.hello.Boot] > 1 {
		a.twoHosts(n)
	}
}

// twoHosts notes that a process which is over still runs: another host than the node's
// present one has its key.
func (a *Arbiter) twoHosts(n *nodeStream) {
	if !a.isOver(n) {
		return
	}
	c, now := a.copiesOf(n.node), a.config.Now()
	if c.seenAt == 0 || now-c.seenAt > LogViolations {
		a.config.Log.Warn("two hosts use the key of one node: the older process carries nothing any more",
			"node", a.nodeName(n.node), "its_address", n.hello.Outer)
	}
	c.seenAt, c.seen = now, n.hello.Outer
}

// copied are the nodes whose keys two hosts had lately, with the address that the one
// which carries nothing gave.
func (a *Arbiter) copied(now time.Duration) map[identity.NodeID]netip.AddrPort {
	all := make(map[identity.NodeID]netip.AddrPort)
	for id, c := range a.copies {
		if c.seenAt != 0 && now-c.seenAt <= CopyForgotten {
			all[id] = c.seen
		}
	}
	return all
}
