package node

import (
	"slices"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Where operators recovered the mesh at two hosts, neither of the two votes by the other's log,
// and each has nodes that obey it. So an arbiter asks members that may be one themselves, and
// have no stream to it, how far they were told. What they say counts if one that may be an
// arbiter signed it, as everywhere.

// apart is when members without a stream are asked. The zero value is ready.
type apart struct {
	mu    sync.Mutex // protects what follows
	waits map[identity.NodeID]wait
}

// wait is until when a member is left alone, and for how long after a question without answer.
type wait struct{ until, pause time.Duration }

// next is the member to ask now: whose turn has been for the longest. Its Index is 0 where it
// is nobody's. A host without power is asked ever more seldom; who is no longer among those that
// are silent begins anew.
func (a *apart) next(silent []protocol.NodeRow, now time.Duration) (row protocol.NodeRow) {
	a.mu.Lock()
	defer a.mu.Unlock()
	waits := make(map[identity.NodeID]wait, len(silent))
	for _, one := range silent {
		w := a.waits[one.ID]
		waits[one.ID] = w
		if w.until <= now && (row.Index == 0 || w.until < waits[row.ID].until) {
			row = one
		}
	}
	if row.Index != 0 {
		pause := min(max(2*waits[row.ID].pause, ClockEvery), ApartMost)
		waits[row.ID] = wait{now + pause, pause}
	}
	a.waits = waits
	return row
}

// answered has a member that is there be asked at the usual pace.
func (a *apart) answered(id identity.NodeID, now time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, silent := a.waits[id]; silent {
		a.waits[id] = wait{until: now}
	}
}

// silent are the members that this node, the arbiter, is to ask; none where it is not.
func (n *Node) silent() []protocol.NodeRow {
	if !n.leads() {
		return nil
	}
	return apartFrom(n.trust.Key.ID(), n.members.all())
}

// apartFrom are those that have no stream to the arbiter and may be one themselves.
func apartFrom(arbiter identity.NodeID, all []protocol.NodeRow) []protocol.NodeRow {
	return slices.DeleteFunc(all, func(row protocol.NodeRow) bool {
		return row.Up || row.May&registry.RoleVoter == 0 || row.ID == arbiter
	})
}
