package session

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// opening is a request whose OpenSession has no outcome yet.
type opening struct {
	ask      Open
	session  registry.SessionID
	parts    []netip.Prefix // still to be tried for a lease, the present one first
	absorbed bool
	replans  int
	pools    uint64 // as it was planned
	gone     bool   // the client's stream closed meanwhile
}

// open admits a client. A request that has its session already gets it again,
// every slice at its next epoch (design 5).
func (a *Arbitrator) open(view *registry.State, e Open) {
	if id, known := view.Requests.Find(e.Request); known {
		a.reopen(view, id, e)
		return
	}
	client := view.Clients.Get(e.Client)
	switch {
	case client == nil || client.Revoked:
		a.refuse(e.Request, Denied, "no such client, or revoked")
	case a.openings[e.Request] != nil:
		a.askedAgain(a.openings[e.Request], e)
	case len(a.openings) >= MaxOpenings || len(a.proposals) >= MaxProposals/2:
		a.refuse(e.Request, Unavailable, "too many requests at a time")
	default:
		e.Bandwidth = cmp.Or(e.Bandwidth, client.Bandwidth, view.Policy.Bandwidth)
		if e.Mode = cmp.Or(e.Mode, view.Policy.Mode); !view.Policy.Allows(e.Mode) {
			a.refuse(e.Request, Forbidden, fmt.Sprintf("slicing mode %s is not allowed here; these are: %v", e.Mode, view.Policy.Modes))
			return
		}
		o := &opening{ask: e, parts: a.partsByLoad(view, e.Client, e.Device)}
		a.fill(o.session[:])
		a.plan(view, o)
	}
}

// askedAgain is a client that heard no answer: one session, for its newer hello. Who
// comes with another key is another client, or one that lost the first: what is under
// way was asked for by who has that key.
func (a *Arbitrator) askedAgain(o *opening, e Open) {
	if o.ask.Client != e.Client || o.ask.Key != e.Key {
		a.refuse(e.Request, Denied, anothersRequest)
		return
	}
	o.gone, o.ask.Hello = false, e.Hello
}

// anothersRequest tells nobody whether there is such a session.
const anothersRequest = "the request is not this client's"

func (a *Arbitrator) reopen(view *registry.State, id registry.SessionID, e Open) {
	s, found := view.Sessions.Find(id)
	switch {
	case !found || s.Client != e.Client || s.Key != e.Key:
		a.refuse(e.Request, Denied, anothersRequest)
		return
	case s.State != registry.SessionActive:
		a.refuse(e.Request, Gone, "the session of this request is over")
		return
	}
	a.resume(view, Resume{Session: id, Request: e.Request, Key: e.Key, Hello: e.Hello})
}

// plan places the session and proposes it.
func (a *Arbitrator) plan(view *registry.State, o *opening) {
	delete(a.openings, o.ask.Request)
	if len(o.parts) == 0 {
		a.refuse(o.ask.Request, Unavailable, "no part of the pool has an egress and a free address")
		return
	}
	p, code, reason := a.place(view, o.wanted(), o.ask.Entered)
	if code != "" {
		a.refuse(o.ask.Request, code, reason)
		if code == Unavailable {
			a.alert("client %s can't be served: %s", o.ask.Client, reason)
		}
		return
	}
	o.absorbed, o.pools = p.absorbed, a.pools
	list := a.firstSlices(o, p)
	if !a.proposeOpen(o, list) {
		a.giveBack(o.pools, list, true)
		a.refuse(o.ask.Request, Unavailable, "too many requests at a time")
		return
	}
	a.openings[o.ask.Request] = o
}

func (a *Arbitrator) proposeOpen(o *opening, list []registry.Slice) bool {
	return a.propose(registry.Command{OpenSession: &registry.OpenSession{
		Session: *o.wanted(), Part: o.parts[0], Slices: list, Track: o.ask.Track,
	}}) != 0
}

// wanted is the session as it was asked for.
func (o *opening) wanted() *registry.Session {
	return &registry.Session{
		ID: o.session, Client: o.ask.Client, Device: o.ask.Device, Request: o.ask.Request, Key: o.ask.Key,
		Identity: o.ask.Identity, Hello: o.ask.Hello, Certificate: o.ask.Certificate, Bandwidth: o.ask.Bandwidth,
		Peer: o.ask.Peer, Mode: o.ask.Mode, Shares: o.ask.Shares, SprayUDP: o.ask.SprayUDP,
	}
}

func (a *Arbitrator) firstSlices(o *opening, p placement) []registry.Slice {
	s := o.wanted()
	agents := p.agents
	if p.spare != nil {
		agents = append(slices.Clone(agents), *p.spare)
	}
	weights := a.firstWeights(s.ID, agents)
	var list []registry.Slice
	for i := range agents {
		parts, spare := len(p.agents), i == len(p.agents)
		if spare {
			parts = 0
		}
		sl := a.grantTo(&agents[i], weights[i], s, uint8(i), 1, parts)
		sl.Suite, sl.Spare = o.ask.Suite, spare
		list = append(list, sl)
	}
	return list
}

// openOutcome goes on after the commit, or tries what is left.
func (a *Arbitrator) openOutcome(view *registry.State, c *registry.OpenSession, e Committed) {
	o := a.openings[c.Session.Request]
	if o == nil || o.session != c.Session.ID {
		a.giveBack(0, c.Slices, false)
		return
	}
	delete(a.openings, c.Session.Request)
	if o.ask.Bandwidth > 0 && (e.Unknown || !ok(e.Result)) {
		a.release(o.session)
	}
	switch {
	case e.Unknown:
		a.giveBack(o.pools, c.Slices, false)
		a.emit(CloseClient{c.Session.Request})
	case ok(e.Result):
		a.openCommitted(view, o, c, e.Result.Session)
	case e.Result.Code == registry.ErrExhausted.Code && len(o.parts) > 1:
		o.parts = o.parts[1:]
		if a.proposeOpen(o, c.Slices) {
			a.openings[c.Session.Request] = o
		} else {
			a.giveBack(o.pools, c.Slices, true)
		}
	default:
		a.giveBack(o.pools, c.Slices, besides(e.Result))
		a.openRefused(view, o, c, e.Result)
	}
}

// openRefused tries again what may succeed by now, or tells the client.
func (a *Arbitrator) openRefused(view *registry.State, o *opening, c *registry.OpenSession, r registry.Result) {
	switch {
	case o.replans < MaxReplans && (stale(r) || r.Code == registry.ErrTooMany.Code && a.makeRoom(view, o.ask.Client)):
		o.replans++
		a.plan(view, o)
	default:
		a.refuseOpen(view, c, r)
	}
}

// openCommitted sends the grants. When an earlier try under the same request
// had been committed unheard, that session is the one, at its next epochs.
func (a *Arbitrator) openCommitted(view *registry.State, o *opening, c *registry.OpenSession, id registry.SessionID) {
	s := active(view, id)
	if s == nil || s.ID != o.session || !bytes.Equal(s.Hello, o.ask.Hello) {
		a.giveBack(o.pools, c.Slices, id != o.session) // of another session: nothing of these was committed
	}
	switch {
	case s == nil:
		a.refuse(o.ask.Request, Unavailable, "the session ended as it began")
		return
	case s.ID != o.session || !bytes.Equal(s.Hello, o.ask.Hello):
		if a.reopen(view, id, o.ask); o.gone {
			delete(a.waiting, o.ask.Request)
		}
		return
	}
	a.tellReplaced(view, s)
	l := a.live(id)
	l.first, l.absorbed = true, o.absorbed
	a.attach(l, o.ask.Request)
	if o.gone {
		a.detach(l)
	}
	for _, sl := range s.Slices {
		a.sendGrant(id, sl)
	}
}

// tendOpening answers the attached client once every slice is agreed or has
// nowhere to go, or OpenWait is over and one is agreed. One that came back is told by
// then that it is heard, whatever its agents are at: it would come back again, and what
// was done for it were lost. Its slices follow.
func (a *Arbitrator) tendOpening(s *registry.Session, l *live) {
	if !l.attached || l.answered {
		return
	}
	for _, at := range []time.Duration{l.openBy, l.giveUp} {
		if at > a.now {
			l.again(at)
		}
	}
	var agreedSlices []registry.Slice
	waiting, usable := false, false
	for _, sl := range s.Slices {
		known := l.slot(sl.Number)
		switch {
		case known == nil:
			waiting = true
		case sl.State == registry.SliceUp && !known.condemned && l.keepsSAs:
			usable = true
		case known.epoch == sl.Epoch && known.phase == agreed && !known.condemned:
			agreedSlices, usable = append(agreedSlices, sl), true
		default:
			waiting = waiting || known.proposal != 0 || (known.phase == asked && !known.condemned)
		}
	}
	switch {
	case usable && (!waiting || a.now >= l.openBy):
		a.answer(s, l, agreedSlices)
	case !usable && (!waiting || a.now >= l.giveUp) && l.first:
		a.giveUp(s, l)
	case !l.first && a.now >= l.openBy:
		a.answer(s, l, nil)
	}
}

func (a *Arbitrator) answer(s *registry.Session, l *live, list []registry.Slice) {
	l.answered = true
	for _, sl := range list {
		known := l.slot(sl.Number)
		known.phase, known.deadline = offered, a.now+UpTimeout
	}
	a.emit(SendClient{Request: l.request, Session: s.ID, What: Opened, Slices: list, Absorbed: l.absorbed})
	l.growAt = a.now + GrowEvery
}

// giveUp ends a session that no agent took. All were counted to have room when they were
// asked, so what kept them is soon over: their prekeys are used up, or they start.
func (a *Arbitrator) giveUp(s *registry.Session, l *live) {
	const reason = "no agent accepted a slice"
	a.refuse(l.request, Unavailable, reason)
	a.alert("session of client %s ended: %s", s.Client, reason)
	a.detach(l)
	l.end = &End{Session: s.ID, Reason: reason}
	a.proposeEnd(l)
}

// stale says that the registry knew something newer than the plan.
func stale(r registry.Result) bool {
	return r.Code == registry.ErrStale.Code || r.Code == registry.ErrPrekey.Code
}

func codeOf(r registry.Result) Code {
	switch r.Code {
	case registry.ErrExhausted.Code:
		return Full
	case registry.ErrTooMany.Code:
		return TooMany
	case registry.ErrRevoked.Code, registry.ErrNotFound.Code:
		return Denied
	}
	return Unavailable
}

// partsByLoad is the parts of the pool that have an egress: those whose egress
// is connected and least used first, ahead of them the one where the device's
// last address waits. A part that is about to move still admits: its session
// follows it.
func (a *Arbitrator) partsByLoad(view *registry.State, client string, device registry.DeviceID) []netip.Prefix {
	last, _ := view.LastLease(client, device)
	var list []registry.Part
	for _, p := range view.Parts {
		if !p.Egress.IsZero() {
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(x, y registry.Part) int {
		hx, hy := a.host(x.Egress), a.host(y.Egress)
		return cmp.Or(
			compareBool(!x.Contains(last), !y.Contains(last)),
			compareBool(!hx.up, !hy.up),
			cmp.Compare(hx.used, hy.used))
	})
	prefixes := make([]netip.Prefix, len(list))
	for i, p := range list {
		prefixes[i] = p.Prefix
	}
	return prefixes
}
