package registry

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unique"

	"github.com/meshcrypt/meshcrypt/consensus/registry/sorted"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// index is what Apply finds things by, so that no command looks at all sessions or
// leases there are. It follows from the rest of the state and is in no snapshot.
type index struct {
	living  sorted.Map[owner, struct{}]      // active sessions
	ended   sorted.Map[ended, struct{}]      // sessions that are over, oldest first
	idle    sorted.Map[netip.Addr, struct{}] // leases that no session has
	left    sorted.Map[left, struct{}]       // the same, by who had them
	carried sorted.Map[carried, struct{}]    // agents that are recorded in a session as its own
	waits   sorted.Map[place, struct{}]      // where else they are: about sessions that are over
	endings sorted.Map[ending, struct{}]     // certificates whose dates are known
}

type owner struct {
	client  string
	device  DeviceID
	session SessionID
}

type ended struct {
	at Tick
	id SessionID
}

type left struct {
	client string
	device DeviceID
	lease  netip.Addr
}

// place is where it stands that an agent has, or may still run, an SA of a session:
// in the record of that session or another, or in a lease.
type place struct {
	agent   identity.NodeID
	session SessionID // whose SA
	in      SessionID // the session that says so; zero: the lease does
	lease   netip.Addr
}

func (p place) compare(o place) int {
	return cmp.Or(compareNodes(p.agent, o.agent), p.session.Compare(o.session), p.in.Compare(o.in), p.lease.Compare(o.lease))
}

// carried is the place of an agent in the record of the very session whose SA it is: there is
// one for almost every slice, so it is small.
type carried struct {
	agent   unique.Handle[identity.NodeID]
	session SessionID
}

func (c carried) compare(o carried) int {
	if c.agent != o.agent {
		return compareNodes(c.agent.Value(), o.agent.Value())
	}
	return c.session.Compare(o.session)
}

// place is where it stands that the agent has it.
func (c carried) place() place {
	return place{agent: c.agent.Value(), session: c.session, in: c.session}
}

// own is the place as a carried one; not ok if it is elsewhere.
func (p place) own() (c carried, ok bool) {
	return carried{unique.Make(p.agent), p.session}, p.in == p.session
}

type ending struct {
	at int64
	id CertificateID
}

func newIndex() index {
	return index{
		living: sorted.New[owner, struct{}](func(a, b owner) int {
			return cmp.Or(strings.Compare(a.client, b.client), a.device.Compare(b.device), a.session.Compare(b.session))
		}),
		ended: sorted.New[ended, struct{}](func(a, b ended) int { return cmp.Or(cmp.Compare(a.at, b.at), a.id.Compare(b.id)) }),
		idle:  sorted.New[netip.Addr, struct{}](netip.Addr.Compare),
		left: sorted.New[left, struct{}](func(a, b left) int {
			return cmp.Or(strings.Compare(a.client, b.client), a.device.Compare(b.device), a.lease.Compare(b.lease))
		}),
		carried: sorted.New[carried, struct{}](carried.compare),
		waits:   sorted.New[place, struct{}](place.compare),
		endings: sorted.New[ending, struct{}](func(a, b ending) int { return cmp.Or(cmp.Compare(a.at, b.at), a.id.Compare(b.id)) }),
	}
}

// reindex replaces in an index the keys of an object's old version by its new one's.
func reindex[K comparable](m *sorted.Map[K, struct{}], before, now []K) {
	for _, k := range before {
		if !slices.Contains(now, k) {
			m.Delete(k)
		}
	}
	for _, k := range now {
		if !slices.Contains(before, k) {
			m.Put(k, struct{}{})
		}
	}
}

// putSession takes a session in, or another version of it.
func (s *State) putSession(ses *Session) {
	before := s.Sessions.Get(ses.ID)
	s.Sessions.Put(ses.ID, ses)
	s.touchSession(ses.ID)
	s.indexSession(before, ses)
}

// dropSession forgets an ended session and the request that opened it.
func (s *State) dropSession(ses *Session) {
	s.indexSession(s.Sessions.Get(ses.ID), nil)
	s.Sessions.Delete(ses.ID)
	s.touchSession(ses.ID)
	if s.Requests.Get(ses.Request) == ses.ID {
		s.Requests.Delete(ses.Request)
	}
}

func (s *State) indexSession(before, now *Session) {
	reindex(&s.index.living, before.living(), now.living())
	reindex(&s.index.ended, before.ended(), now.ended())
	s.reindexPlaces(before.places(), now.places())
}

func (s *State) reindexPlaces(before, now []place) {
	ownBefore, waitBefore := apart(before)
	ownNow, waitNow := apart(now)
	reindex(&s.index.carried, ownBefore, ownNow)
	reindex(&s.index.waits, waitBefore, waitNow)
}

// apart are the carried ones of some places, and the others.
func apart(all []place) (own []carried, waits []place) {
	for _, p := range all {
		if c, ok := p.own(); ok {
			own = append(own, c)
		} else {
			waits = append(waits, p)
		}
	}
	return own, waits
}

// living is the session's key while it is active.
func (ses *Session) living() []owner {
	if ses == nil || ses.State != SessionActive {
		return nil
	}
	return []owner{{ses.Client, ses.Device, ses.ID}}
}

func (ses *Session) ended() []ended {
	if ses == nil || ses.State != SessionEnded {
		return nil
	}
	return []ended{{ses.Ended, ses.ID}}
}

// places are of the agents of its slices and of those that it has from its leases.
func (ses *Session) places() (all []place) {
	if ses == nil {
		return nil
	}
	add := func(p place) {
		if !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	for _, epochs := range [][]Slice{ses.Slices, ses.Retiring} {
		for _, sl := range epochs {
			if sl.State != SliceVoid {
				add(place{agent: sl.Agent, session: ses.ID, in: ses.ID})
			}
		}
	}
	for _, h := range ses.Holders {
		add(place{agent: h.Agent, session: h.Session, in: ses.ID})
	}
	return all
}

// putLease takes a lease in, or another version of it.
func (s *State) putLease(a netip.Addr, l *Lease) {
	before := s.Leases.Get(a)
	s.Leases.Put(a, l)
	if was, is := before != nil && before.idle(), l.idle(); is && !was {
		s.index.idle.Put(a, struct{}{})
	} else if was && !is {
		s.index.idle.Delete(a)
	}
	reindex(&s.index.left, before.left(a), l.left(a))
	s.reindexPlaces(before.places(a), l.places(a))
}

func (l *Lease) left(a netip.Addr) []left {
	if l == nil || !l.idle() {
		return nil
	}
	return []left{{l.Client, l.Device, a}}
}

func (l *Lease) places(a netip.Addr) (all []place) {
	if l == nil {
		return nil
	}
	for _, h := range l.Holders {
		if p := (place{agent: h.Agent, session: h.Session, lease: a}); !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

func (s *State) putCertificate(c *Certificate) {
	s.dropCertificate(c.ID)
	s.Certificates.Put(c.ID, c)
	if c.Ends != 0 {
		s.index.endings.Put(ending{c.Ends, c.ID}, struct{}{})
	}
}

func (s *State) dropCertificate(id CertificateID) {
	if known := s.Certificates.Get(id); known != nil {
		s.index.endings.Delete(ending{known.Ends, id})
		s.Certificates.Delete(id)
	}
}

func (s *State) putNode(n *Node) {
	s.Nodes = maps.Clone(s.Nodes)
	s.Nodes[n.ID] = n
	s.touchNode(n.ID)
}

func (s *State) hold(index identity.Index, hold IndexHold) {
	s.Indexes = maps.Clone(s.Indexes)
	s.Indexes[index] = hold
}

// Living are the active sessions of a client, by device and ID.
func (s *State) Living(client string) iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		for o := range s.index.living.From(owner{client: client}) {
			if o.client != client || !yield(s.Sessions.Get(o.session)) {
				return
			}
		}
	}
}

// livingOn are those of one of its devices.
func (s *State) livingOn(client string, device DeviceID) iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		for o := range s.index.living.From(owner{client: client, device: device}) {
			if o.client != client || o.device != device || !yield(s.Sessions.Get(o.session)) {
				return
			}
		}
	}
}

// placesOf is where an agent is recorded, first those that it carries.
func (s *State) placesOf(agent identity.NodeID) iter.Seq[place] {
	own, waits := s.carriedOf(agent), s.index.waits
	return func(yield func(place) bool) {
		for c := range own {
			if !yield(c.place()) {
				return
			}
		}
		for p := range waits.From(place{agent: agent}) {
			if p.agent != agent || !yield(p) {
				return
			}
		}
	}
}

// carriedOf are the places of an agent in the records of the sessions themselves.
func (s *State) carriedOf(agent identity.NodeID) iter.Seq[carried] {
	who, all := unique.Make(agent), s.index.carried
	return func(yield func(carried) bool) {
		for c := range all.From(carried{agent: who}) {
			if c.agent != who || !yield(c) {
				return
			}
		}
	}
}

// placesWith is where it is recorded of a certain session.
func (s *State) placesWith(agent identity.NodeID, session SessionID) iter.Seq[place] {
	own, waits := carried{unique.Make(agent), session}, s.index.waits
	is := s.index.carried.Has(own)
	return func(yield func(place) bool) {
		if is && !yield(own.place()) {
			return
		}
		for p := range waits.From(place{agent: agent, session: session}) {
			if p.agent != agent || p.session != session || !yield(p) {
				return
			}
		}
	}
}
