package port

import (
	"math"
	"net"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/node/slots"
)

// holding is one connection that the port has. What is not fixed is protected by
// the port's lock.
type holding struct {
	ticket slots.Ticket
	conn   net.Conn
	from   netip.Addr
	// through is the node that passed it on and named from; empty: nobody did.
	through string
	turn    chan struct{} // closed when it has a slot, or has to go; nil after its handshake
	told    bool          // turn is closed
	fate    Reason        // why it has to go; zero: it has not
	handed  bool          // its handler has it, or will in a moment
	last    bool          // it has one of the last descriptors
	kept    bool          // its handler keeps it though it has returned; of its goroutine alone
	waits   bool          // it can be told to come again; of its goroutine alone
	come    time.Duration // when it is told to; of its goroutine alone
}

// acquaintances are the addresses that this node knows; never changed.
type acquaintances struct {
	members, clients map[netip.Addr]struct{}
}

// Know tells the port who is no stranger: the addresses of nodes, and of clients
// whose sessions live. It replaces what was told before.
func (p *Port) Know(members, clients []netip.Addr) {
	set := func(all []netip.Addr) map[netip.Addr]struct{} {
		m := make(map[netip.Addr]struct{}, len(all))
		for _, a := range all {
			m[a.Unmap().WithZone("")] = struct{}{}
		}
		return m
	}
	p.acquaint.Store(&acquaintances{set(members), set(clients)})
}

// Knows reports whether an address is that of a client or node we know.
func (p *Port) Knows(a netip.Addr) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.classOf(a, "") != slots.Stranger
}

// Siege tells what goes on when strangers are turned away; false in peace.
func (p *Port) Siege() (r slots.Report, since time.Time, under bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r, under = p.siege.Report(p.now())
	return r, p.started.Add(r.Since), under
}

func (p *Port) now() time.Duration { return time.Since(p.started) }

// classOf is whom an address counts among, as we saw it or as a node named it: then it
// is a client's at most.
func (p *Port) classOf(a netip.Addr, through string) slots.Class {
	if through != "" {
		if _, ok := p.acquaint.Load().clients[a]; ok {
			return slots.Known
		}
		return p.named.Class(a, p.now())
	}
	known := p.acquaint.Load()
	if _, ok := known.members[a]; ok {
		return slots.Member
	}
	if _, ok := known.clients[a]; ok {
		return max(slots.Known, p.memory.Class(a, p.now()))
	}
	return p.memory.Class(a, p.now())
}

// enter gives a connection its place; it returns why not, or zero.
func (p *Port) enter(conn net.Conn, from netip.Addr, by introduction) (*holding, Reason) {
	h := &holding{conn: conn, from: from, through: by.through, last: by.last, turn: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	class := p.classOf(from, by.through)
	if by.known {
		class = max(class, slots.Known) // at that node's own cost: it has its share of them
	}
	switch {
	case p.closed:
		return nil, ReasonClosing
	case len(p.live) >= MaxConnections || class != slots.Member && len(p.live) >= MaxConnections-ReservedConnections:
		return nil, ReasonFull
	case by.last && class != slots.Member:
		return nil, ReasonFiles
	}
	p.live[&h.ticket] = h
	p.expel(p.slots.Enter(&h.ticket, class, h.source()), ReasonCrowded)
	return h, 0
}

// queue waits for a slot; it returns why there is none, or zero.
func (p *Port) queue(h *holding, said hello) Reason {
	if why := p.appoint(h, said); why != 0 {
		return why
	}
	late := time.NewTimer(queueTimeout(h.waits))
	defer late.Stop()
	p.mu.Lock()
	class := h.ticket.Class()
	if class == slots.Member && said.alpn == ALPNRelay {
		class = slots.Relay
		if said.name == relayKnown {
			class = slots.RelayKnown
		}
	}
	p.expel(p.slots.Ready(&h.ticket, class), ReasonCrowded)
	p.giveSlots()
	p.mu.Unlock()
	select {
	case <-h.turn:
		return p.fateOf(h, 0)
	case <-p.done:
		return ReasonClosing
	case <-late.C:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.told {
		return h.fate // in the last moment
	}
	return p.postpone(h)
}

// queueTimeout is how long one waits for its slot: less if it is told to come again then.
func queueTimeout(waits bool) time.Duration {
	if waits {
		return WaitTimeout
	}
	return QueueTimeout
}

// giveSlots lets node/slots decide, and tells whom it concerns.
func (p *Port) giveSlots() {
	most := math.MaxInt
	if p.pace != nil {
		most = p.pace.most - p.pace.working()
	}
	granted, overtaken := p.slots.Next(p.now(), most)
	for _, t := range overtaken {
		p.expel(t, ReasonOvertaken)
	}
	for _, t := range granted {
		p.tell(p.live[t])
	}
	if p.slots.Waiting() {
		select {
		case p.wanted <- struct{}{}:
		default:
		}
	}
}

// keepSlots gives out slots as budgets fill and handshakes grow old.
func (p *Port) keepSlots() {
	for {
		select {
		case <-p.done:
			return
		case <-p.wanted:
		}
		if !p.pause(slotEvery) {
			return
		}
		p.mu.Lock()
		p.giveSlots()
		p.mu.Unlock()
	}
}

// expel closes a connection that lost its place.
func (p *Port) expel(t *slots.Ticket, why Reason) {
	h := p.live[t] // t is nil where nobody had to go
	if h == nil {
		return
	}
	h.fate = why
	h.conn.Close()
	p.tell(h)
	p.refused(h)
	if h.handed {
		p.counts.unproven.Add(1)
	}
}

func (p *Port) tell(h *holding) {
	if h != nil && !h.told {
		h.told = true
		close(h.turn)
	}
}

// refused notes a connection that more slots, room or CPU would have served.
func (p *Port) refused(h *holding) {
	p.siege.Refused(h.source(), p.now())
	_, under := p.siege.Report(p.now())
	if under && !p.besieged {
		p.log.Warn("more strangers than there are handshakes for; those known go first", "last", h.from)
	}
	p.besieged = under
}

// handshakeDone frees the slot; the connection is its handler's.
func (p *Port) handshakeDone(h *holding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.handed = true
	if h.told {
		h.turn = nil // it has had it; nobody waits, and its connection may stay for days
	}
	p.expel(p.slots.Done(&h.ticket), ReasonCrowded)
	p.giveSlots()
}

// prove notes who stands behind a connection.
func (p *Port) prove(h *holding, as slots.Class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slots.Prove(&h.ticket, p.now())
	if h.through != "" {
		p.named.Remember(h.from, slots.Known, p.now())
		return
	}
	p.memory.Remember(h.from, as, p.now())
}

func (h *holding) source() slots.Source { return slots.SourceOf(h.from).Through(h.through) }

// settleLater is for connections that nobody will prove.
func (p *Port) settleLater(h *holding) {
	time.AfterFunc(SettleAfter, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.slots.Settle(&h.ticket)
	})
}

// fateOf is why a connection had to go, or else why.
func (p *Port) fateOf(h *holding, why Reason) Reason {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.fate != 0 {
		return h.fate
	}
	return why
}

func (p *Port) release(h *holding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, &h.ticket)
	p.slots.Leave(&h.ticket)
	p.giveSlots()
}
