package session

import (
	"cmp"
	"math"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// host is what this term knows of a node beyond the registry.
type host struct {
	seen    bool // had a stream in this term
	up      bool
	boot    identity.BootID
	since   time.Duration // last change of up
	began   time.Duration // another process of it than before was heard of first, if anew
	anew    bool
	prekeys []uint32      // unused SPIs of boot, oldest first
	acked   time.Duration // it answered a grant, last

	used        float64          // as reported last: what placement goes by
	mean        float64          // over LoadOver
	settled     slicing.Capacity // what weights go by; weight.go
	apart       int              // what it is now is more, 1, or less, -1, than that
	apartAt     time.Duration    // since when
	reported    bool
	reportedAt  time.Duration
	mbit        uint32
	capacity    uint32
	reserved    []reservation
	roles       Tag // SetRoles without outcome
	drainedTold bool
	sound       Soundness // its own word
	supply      supply    // as reviewed last
}

// reservation is capacity given away that load reports can't show yet.
type reservation struct {
	session registry.SessionID
	bits    uint64
	until   time.Duration
}

func (a *Arbitrator) host(id identity.NodeID) *host {
	h := a.hosts[id]
	if h == nil {
		h = &host{since: a.start}
		a.hosts[id] = h
	}
	return h
}

func (a *Arbitrator) nodeUp(view *registry.State, e NodeUp) {
	if node := view.Nodes[e.Node]; node == nil || node.Removed {
		return
	}
	h := a.host(e.Node)
	// The registry knows the process of before until this one's facts are committed.
	if before := view.Nodes[e.Node].Boot; h.boot != e.Boot && (h.seen || before != identity.BootID{} && before != e.Boot) {
		h.anew, h.began = true, a.now
	}
	h.seen, h.up, h.boot, h.since, h.prekeys = true, true, e.Boot, a.now, nil
	a.pools++
	a.hostChanged(e.Node)
}

// nodeDown ignores the end of a stream that another boot's has replaced.
func (a *Arbitrator) nodeDown(e NodeDown) {
	h := a.host(e.Node)
	if h.up && h.boot == e.Boot {
		h.up, h.since, h.prekeys = false, a.now, nil
		a.hostChanged(e.Node)
	}
}

// hostChanged has all looked at that a node's stream is about.
func (a *Arbitrator) hostChanged(id identity.NodeID) {
	a.stirNode(id)
	a.doubt(id)
	a.rolesDue, a.partsDue = true, true
}

// addPrekeys keeps SPIs that are the node's by their index; the latest go
// first, and what comes above the limit is not kept.
func (a *Arbitrator) addPrekeys(view *registry.State, e Prekeys) {
	h, node := a.host(e.Node), view.Nodes[e.Node]
	if !h.up || node == nil {
		return
	}
	for _, spi := range e.SPIs {
		if len(h.prekeys) < MaxPrekeys && identity.Index(spi>>20) == node.Index && !slices.Contains(h.prekeys, spi) {
			h.prekeys = append(h.prekeys, spi)
		}
	}
	a.doubt(e.Node)
}

// load takes a hint; what is no number counts as full, and strangers not at all.
func (a *Arbitrator) load(view *registry.State, e Load) {
	node := view.Nodes[e.Node]
	if node == nil {
		return
	}
	h := a.host(e.Node)
	h.used, h.mbit, h.capacity = min(max(e.Used, 0), 1), e.Mbit, e.Capacity
	if math.IsNaN(h.used) {
		h.used = 1
	}
	h.average(a.now, h.used)
	if h.settle(a.now, node) {
		a.reweighOn(e.Node)
	}
	a.doubt(e.Node)
}

// suspect says that a node that reports its load has missed reports.
func (h *host) suspect(now time.Duration) bool {
	return h.reported && now-max(h.reportedAt, h.since) >= SuspectAfter
}

// takePrekey gives an SPI away for good: whatever becomes of the command that
// names it, it is not offered again. But see giveBack. It is the latest: of those the agent
// has the private key as it was made (agent.MaxYoung).
func (h *host) takePrekey() uint32 {
	last := len(h.prekeys) - 1
	spi := h.prekeys[last]
	h.prekeys = h.prekeys[:last]
	return spi
}

// giveBack is for the prekeys of a command that no agent was told of. They are usable
// again if nothing of it was committed and it was refused for what has nothing to do
// with them; else they are dropped. Either way an agent does not count on them to be
// granted: a client that is refused again and again would use up those of all agents.
func (a *Arbitrator) giveBack(pools uint64, list []registry.Slice, again bool) {
	for _, sl := range list {
		h := a.hosts[sl.Agent]
		switch {
		case h == nil || !h.up || h.boot != sl.Boot: // they went with their stream
		case again && a.pools == pools && len(h.prekeys) < MaxPrekeys:
			h.prekeys = append(h.prekeys, sl.SPI)
			a.doubt(sl.Agent)
		default:
			a.emit(DropPrekey{sl.Agent, sl.SPI})
		}
	}
}

// besides reports whether a command was refused for something else than its prekeys.
func besides(r registry.Result) bool {
	switch r.Code {
	case registry.ErrTooMany.Code, registry.ErrExhausted.Code, registry.ErrUnconfirmed.Code, registry.ErrEnded.Code:
		return true
	}
	return false
}

// TakePrekey gives an SPI of a node's pool away for something that is no slice.
func (a *Arbitrator) TakePrekey(node identity.NodeID) (spi uint32, ok bool) {
	h := a.hosts[node]
	if h == nil || !h.up || len(h.prekeys) == 0 {
		return 0, false
	}
	a.doubt(node)
	return h.takePrekey(), true
}

func (h *host) reserve(now time.Duration, session registry.SessionID, bits uint64) {
	h.reserved = slices.DeleteFunc(h.reserved, func(r reservation) bool { return r.until <= now })
	if len(h.reserved) >= MaxReserved {
		h.reserved = h.reserved[1:]
	}
	h.reserved = append(h.reserved, reservation{session, bits, now + ReserveFor})
}

// release takes back what was reserved for a session that did not come to be.
func (a *Arbitrator) release(session registry.SessionID) {
	for id, h := range a.hosts {
		h.reserved = slices.DeleteFunc(h.reserved, func(r reservation) bool { return r.session == session })
		a.doubt(id)
	}
}

// free is the node's free sealing capacity in bit/s: what it reports, clamped
// to what it registered, minus what was given to other sessions just now.
func (h *host) free(now time.Duration, node *registry.Node, session registry.SessionID) uint64 {
	return h.left(now, float64(h.offered(node))*(1-h.used), session)
}

// left is what remains of free without what was given to other sessions.
func (h *host) left(now time.Duration, free float64, session registry.SessionID) uint64 {
	for _, r := range h.reserved {
		if r.until > now && r.session != session {
			free -= float64(r.bits)
		}
	}
	return uint64(max(free, 0))
}

// offered is the node's whole sealing capacity in bit/s.
func (h *host) offered(node *registry.Node) uint64 {
	mbit := clamp(h.mbit, node.Mbit)
	if mbit == 0 {
		mbit = MbitPerCPU * clamp(h.capacity, node.Capacity) / 1000
	}
	return mbit * 1_000_000
}

// clamp is the reported figure, never above the registered one.
func clamp(reported, registered uint32) uint64 {
	if reported == 0 || (registered != 0 && reported > registered) {
		return uint64(registered)
	}
	return uint64(reported)
}

// goneFor says that a node's stream has been down for so long. A node that
// this term never heard of gets RebuildGrace first.
func (a *Arbitrator) goneFor(id identity.NodeID, wait time.Duration) bool {
	return a.now >= a.goneAt(id, wait)
}

// goneAt is when that is so as things are.
func (a *Arbitrator) goneAt(id identity.NodeID, wait time.Duration) time.Duration {
	h := a.hosts[id]
	switch {
	case h == nil || !h.seen:
		return a.start + max(wait, RebuildGrace)
	case h.up:
		return never
	}
	return h.since + wait
}

// owned says that somebody living owns the slice: its agent is a node of the
// mesh, not gone, and of the boot that was granted.
func (a *Arbitrator) owned(view *registry.State, sl registry.Slice) bool {
	node, h := view.Nodes[sl.Agent], a.hosts[sl.Agent]
	if sl.State == registry.SliceVoid || node == nil || node.Removed || a.goneFor(sl.Agent, NodeGone) {
		return false
	}
	return h == nil || !h.up || h.boot == sl.Boot
}

// candidate is a node that may be given a slice now.
type candidate struct {
	node *registry.Node
	host *host
	free uint64
	last bool // the arbiter's own, while there are enough others
}

func (c candidate) room() bool { return c.free >= MinRoom }

// candidates is every agent that is eligible, the freest for that session first. The
// arbiter's own node comes last when there are two others: the registration server has
// other work (design 9).
func (a *Arbitrator) candidates(view *registry.State, s *registry.Session) []candidate {
	list := a.eligible(view, s)
	slices.SortFunc(list, func(x, y candidate) int {
		return cmp.Or(compareBool(x.last, y.last), cmp.Compare(y.free, x.free), cmp.Compare(x.node.Index, y.node.Index))
	})
	return list
}

// eligible is every agent with a stream and a prekey; where the session's client named a
// peer, that node alone. One that says it is not whole gets nothing while another can.
func (a *Arbitrator) eligible(view *registry.State, s *registry.Session) []candidate {
	list := make([]candidate, 0, len(view.Nodes))
	for id, node := range view.Nodes {
		h := a.hosts[id]
		if h == nil || !h.up || len(h.prekeys) == 0 || !mayCarry(node) || !s.Peer.IsZero() && s.Peer != id {
			continue
		}
		list = append(list, candidate{node: node, host: h, free: h.free(a.now, node, s.ID)})
	}
	list = soundest(list)
	for i := range list {
		list[i].last = len(list) >= 3 && list[i].node.ID == a.self
	}
	return list
}

// soundest leaves out the broken ones, unless there are no others.
func soundest(list []candidate) []candidate {
	sound := slices.DeleteFunc(slices.Clone(list), func(c candidate) bool { return c.host.sound == Broken })
	if len(sound) == 0 {
		return list
	}
	return sound
}

// mayCarry says that a node has a data role and keeps it.
func mayCarry(node *registry.Node) bool {
	return node.Is&registry.RoleAgent != 0 && !node.Removed && !node.Drained
}

// compareBool puts false first.
func compareBool(x, y bool) int {
	switch {
	case x == y:
		return 0
	case y:
		return -1
	}
	return 1
}
