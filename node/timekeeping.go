package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/clocks"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// timekeeping is what time the other voters have, as they said when they were asked. The
// arbiter hears it on their streams; who has no stream asks, for a wrong clock keeps every
// stream from opening. The zero value is ready, but for doubted.
type timekeeping struct {
	doubted chan protocol.NodeRow // one slot: to be asked for the proof of what it claims

	mu     sync.Mutex // protects what follows
	told   map[identity.NodeID]toldTime
	asking map[identity.NodeID]bool // without an answer yet
	own    time.Duration            // this host's wall clock less its boot time, at the last look
	said   time.Duration            // how far off this host's clock is, by this node's log
	signed protocol.Known           // the furthest that they passed on of the log
}

// toldTime is a wall clock less this host's boot time: as long as nobody sets either
// clock it stays the same.
type toldTime struct{ shows, at time.Duration }

// begin says whether a voter is to be asked now: not twice at a time.
func (t *timekeeping) begin(id identity.NodeID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.asking == nil {
		t.told, t.asking = make(map[identity.NodeID]toldTime), make(map[identity.NodeID]bool)
	}
	first := !t.asking[id]
	t.asking[id] = true
	return first
}

func (t *timekeeping) end(id identity.NodeID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.asking, id)
}

// tells notes what time a voter has.
func (t *timekeeping) tells(id identity.NodeID, wall time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := bootTime()
	t.told[id] = toldTime{shows(wall, now), now}
}

// shows is a wall clock's reading at a moment of boot time.
func shows(wall time.Time, boot time.Duration) time.Duration {
	return time.Duration(wall.UnixNano()) - boot
}

// recent is what was told within ClockStale.
func (t *timekeeping) recent() (all []clocks.Reading) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, told := range t.told {
		if bootTime()-told.at < ClockStale {
			all = append(all, clocks.Reading{Node: id, Voter: true, Shows: told.shows})
		}
	}
	return all
}

// moved notes what this host's clock shows, and says whether somebody has set it.
func (t *timekeeping) moved(shows time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	step := shows - t.own
	t.own = shows
	return step > clocks.Limit/2 || -step > clocks.Limit/2
}

// clockVerdict judges this host's clock by what the voters said of theirs. Nil: nobody
// was asked.
func (n *Node) clockVerdict() (v clocks.Verdict) {
	others := n.clocks.recent()
	if len(others) == 0 {
		return v
	}
	own := n.trust.Key.ID()
	return clocks.Judge(append(others, clocks.Reading{Node: own, Voter: n.votes(), Shows: shows(n.wall(), bootTime())}))
}

// votes says whether this node does, by its own log.
func (n *Node) votes() bool { return n.store.Load() != nil && n.voting(n.trust.Key.ID()) }

// voting says whether a node votes, by this node's own log: the members' list may be from
// before it did, and no arbiter is heard that brings another.
func (n *Node) voting(id identity.NodeID) bool {
	store := n.store.Load()
	return store != nil && slices.ContainsFunc(store.Servers(), func(s consensus.Server) bool { return s.Voter && s.ID == id })
}

// clockFails says why this node must not lead: the other voters are sure that its clock
// is wrong, so nobody would take the certificates that it mints.
func (n *Node) clockFails() error {
	if v := n.clockVerdict(); v.Sure && v.Off[n.trust.Key.ID()] != 0 {
		return fmt.Errorf("%w: %v ahead", arbiter.ErrClock, v.Off[n.trust.Key.ID()])
	}
	return nil
}

// serveClock tells members what time this host has. Their keys must be listed; dates
// say nothing here. One that was removed is told, too: it may be an arbiter that was taken for
// lost when the mesh was recovered here, and goes on until it hears of that.
func (n *Node) serveClock() {
	check := func(raw [][]byte) error {
		return n.trust.Listed(raw, func(id identity.NodeID) bool {
			return n.members.find(id).Index != 0 || n.inElectorate(id) || n.wasMember(id)
		})
	}
	n.port.Handle(port.ALPNClock, pki.Server(port.ALPNClock, n.trust.Certificate, check), func(conn *tls.Conn, _ netip.AddrPort) {
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(ClockWithin))
		c := protocol.NewConn[protocol.Clock](conn)
		if c.Write(&protocol.Clock{Wall: n.wall().UnixMilli(), Known: n.memory.proven()}) != nil {
			return // who is gone asks again
		}
		if told, err := c.Read(); err == nil {
			n.hearKnown(told.Known)
		}
	})
}

// wasMember says whether this node's log knows a key, also of a node that was removed.
func (n *Node) wasMember(id identity.NodeID) (was bool) {
	err := n.view(func(s *registry.State) { was = s.Nodes[id] != nil })
	return err == nil && was
}

// keepClocks asks the voters for the time whenever no stream tells it.
func (n *Node) keepClocks(ctx context.Context) {
	var asked sync.WaitGroup
	defer asked.Wait()
	ticker := time.NewTicker(ClockEvery)
	defer ticker.Stop()
	ask := func(row protocol.NodeRow) {
		if n.clocks.begin(row.ID) {
			asked.Go(func() {
				defer n.clocks.end(row.ID)
				if said, err := n.askClock(ctx, row); err == nil {
					n.apart.answered(row.ID, bootTime())
					n.hearClock(row, said)
				}
			})
		}
	}
	for due := true; ; {
		for _, row := range n.clocksToAsk(ctx) {
			ask(row)
		}
		if due {
			if row := n.apart.next(n.silent(), bootTime()); row.Index != 0 {
				ask(row)
			}
		}
		n.logClock()
		due = false
		select {
		case <-ctx.Done():
			return
		case row := <-n.clocks.doubted:
			ask(row)
		case <-ticker.C:
			due = true
		}
	}
}

// hearClock takes what another member said. Of time only a voter's word counts.
func (n *Node) hearClock(row protocol.NodeRow, said *protocol.Clock) {
	if row.Voter || n.voting(row.ID) {
		n.clocks.tells(row.ID, time.UnixMilli(said.Wall))
	}
	n.hearKnown(said.Known)
}

// hearKnown takes what another member knows of the mesh's history; nil: nothing.
func (n *Node) hearKnown(k *protocol.Known) {
	if k == nil || !n.believes(*k) {
		return
	}
	n.clocks.passes(*k)
	if store := n.store.Load(); store != nil {
		store.Learn(floorOf(*k))
	}
}

// tellRecovered tells who answered that the mesh was recovered since, if he does not know it:
// he, or the arbiter that he obeys, may reach nobody who does. Builds before do not listen.
func (n *Node) tellRecovered(c *protocol.Conn[protocol.Clock], said *protocol.Clock) {
	if own := n.memory.proven(); own != nil && said.Known != nil && said.Known.Incarnation < own.Incarnation {
		_ = c.Write(&protocol.Clock{Wall: n.wall().UnixMilli(), Known: own}) // he is asked again
	}
}

// recovered reports whether an arbiter signed a word of an incarnation or a later one,
// and has the node that claims it asked for that otherwise.
func (n *Node) recovered(by protocol.NodeRow, incarnation uint64) bool {
	if max(n.memory.furthest().Incarnation, n.clocks.passed().Incarnation) >= incarnation {
		return true
	}
	select {
	case n.clocks.doubted <- by:
	default: // it claims it again
	}
	return false
}

// passes keeps what a node passed on, and an arbiter signed.
func (t *timekeeping) passes(k protocol.Known) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.signed.Less(k) {
		t.signed = k
	}
}

func (t *timekeeping) passed() protocol.Known {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.signed
}

func floorOf(k protocol.Known) consensus.Known {
	all := consensus.Known{Incarnation: k.Incarnation, Term: k.Term, Index: k.Index, By: string(k.Leadership)}
	if k.Index > 0 { // else it is of the fence alone, and nobody signed it
		all.From = k.By.ID()
	}
	return all
}

// askKnown asks whom it can how far the log went, before this node votes: its disk may be
// an older one than it had. It is the furthest of all, and of what the node knows itself.
func (n *Node) askKnown() consensus.Known {
	ctx, cancel := context.WithTimeout(context.Background(), KnownWithin)
	defer cancel()
	var mu sync.Mutex
	var asked sync.WaitGroup
	furthest := n.memory.furthest()
	for _, row := range n.whomToAsk() {
		asked.Go(func() {
			said, err := n.askClock(ctx, row)
			if err != nil || said.Known == nil || !n.believes(*said.Known) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if furthest.Less(*said.Known) {
				furthest = *said.Known
			}
		})
	}
	asked.Wait()
	n.clocks.passes(furthest)
	return floorOf(furthest)
}

// whomToAsk are the other members, voters first, and no more than MaxAsked.
func (n *Node) whomToAsk() (rows []protocol.NodeRow) {
	for _, row := range n.members.all() {
		switch {
		case row.ID == n.trust.Key.ID():
		case row.Voter:
			rows = slices.Insert(rows, 0, row)
		default:
			rows = append(rows, row)
		}
	}
	return rows[:min(len(rows), MaxAsked)]
}

// clocksToAsk are the other voters while this node hears no arbiter or is a new one, or
// when its own clock was set; and for an arbiter always those that have no stream to it.
func (n *Node) clocksToAsk(ctx context.Context) (rows []protocol.NodeRow) {
	moved := n.clocks.moved(shows(n.wall(), bootTime()))
	report, ok := n.agent.Report(ctx)
	leads, apart := n.leads(), ok && !report.Heard || moved || n.ownClock() != 0
	for _, row := range n.members.all() {
		if (row.Voter || n.voting(row.ID)) && row.ID != n.trust.Key.ID() && (apart || leads && !row.Up) {
			rows = append(rows, row)
		}
	}
	return rows
}

// leads says whether this node's log does.
func (n *Node) leads() bool {
	store := n.store.Load()
	if store == nil {
		return false
	}
	leader, known := store.Leader()
	return known && leader == n.trust.Key.ID()
}

// askClock takes no longer than ClockWithin, whatever the other end does.
func (n *Node) askClock(ctx context.Context, row protocol.NodeRow) (said *protocol.Clock, err error) {
	ctx, cancel := context.WithTimeout(ctx, ClockWithin)
	defer cancel()
	end, _ := ctx.Deadline()
	for _, at := range n.reach(row) {
		var conn *tls.Conn
		if conn, err = n.dialTLS(ctx, at, n.trust.ToNode(port.ALPNClock, row.ID)); err != nil {
			continue
		}
		defer conn.Close()
		_ = conn.SetDeadline(end)
		c := protocol.NewConn[protocol.Clock](conn)
		if said, err = c.Read(); err == nil {
			n.tellRecovered(c, said)
		}
		return said, err
	}
	return nil, cmp.Or(err, fmt.Errorf("%s has no address", row.ID.Short()))
}

// logClock says once that this host's clock is wrong, and that it is right again.
func (n *Node) logClock() {
	ahead := n.ownClock()
	t := &n.clocks
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case ahead != 0 && t.said == 0:
		n.config.Log.Warn("this host's clock is wrong: set it (timedatectl set-ntp true, or chronyc makestep)", "ahead", ahead)
	case ahead == 0 && t.said != 0:
		n.config.Log.Info("this host's clock agrees with the others again")
	}
	t.said = ahead
}

// ownClock is how far this host's clock is ahead, by the voters or, where they were not
// asked, by the arbiter; 0: it is not known to be wrong.
func (n *Node) ownClock() time.Duration {
	if len(n.clocks.recent()) > 0 {
		return n.clockVerdict().Off[n.trust.Key.ID()]
	}
	return time.Duration(n.members.find(n.trust.Key.ID()).Clock) * time.Second
}

// wrongClocks are the sentences about clocks in a status.
func (n *Node) wrongClocks(heard bool) (all []string) {
	if n.trust == nil {
		return nil // a Node of a test
	}
	if ahead := n.ownClock(); ahead != 0 {
		all = append(all, clocks.Words("this host", ahead))
	}
	for _, row := range n.members.all() {
		if heard && row.Clock != 0 && row.ID != n.trust.Key.ID() {
			all = append(all, clocks.Words(row.Name, time.Duration(row.Clock)*time.Second))
		}
	}
	if v := n.clockVerdict(); v.Apart != 0 && len(all) == 0 && !heard {
		all = append(all, fmt.Sprintf("the clocks of this host and of the mesh's voters are %v apart, so one of them is wrong and certificates are out of date: "+
			"compare `date` on each of them, and set the wrong one (timedatectl set-ntp true)", v.Apart.Round(time.Second)))
	}
	return all
}
