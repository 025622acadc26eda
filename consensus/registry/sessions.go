package registry

import (
	"cmp"
	"crypto/sha256"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// apply admits a session. The result names the session that the request found,
// which is an older one when the request was made before.
func (c *OpenSession) apply(s *State, at entry) (Result, *Error) {
	if err := s.admitted(c.Session.Client); err != nil {
		return Result{}, err
	}
	if err := s.certified(c.Session.Certificate, c.Session.Client); err != nil {
		return Result{}, err
	}
	if id, ok := s.Requests.Find(c.Session.Request); ok {
		return c.again(s.Sessions.Get(id))
	}
	if err := c.check(s); err != nil {
		return Result{}, err
	}
	part := slices.IndexFunc(s.Parts, func(p Part) bool { return p.Prefix == c.Part })
	if part < 0 {
		return Result{}, ErrNotFound.with("part %s", c.Part)
	}
	granted, err := s.checkSlices(c.Slices, at)
	if err != nil {
		return Result{}, err
	}
	yields, ok := s.roomForSession()
	if !ok {
		return Result{}, ErrExhausted.with("%d sessions", s.Room().Sessions)
	}
	ends := c.replaces(s)
	if err := s.limitSessions(c.Session.Client, ends); err != nil {
		return Result{}, err
	}
	leases, full := s.chooseLeases(&s.Parts[part], taker{c.Session.Client, c.Session.Device, ends})
	if full.IsValid() {
		return Result{}, ErrExhausted.with("no free lease in part %s", full)
	}
	if err := c.limitHolders(s, leases, ends); err != nil {
		return Result{}, err
	}
	if yields != nil {
		s.dropSession(yields)
	}
	for _, sl := range granted {
		s.spend(sl)
	}
	for _, old := range ends {
		s.endSession(old, ReasonReplaced, old.Bytes)
	}
	ses := c.admit(s, s.Parts[part], leases)
	ses.Slices = granted
	ses.hold(granted...)
	s.Requests.Put(ses.Request, ses.ID)
	s.takeLeases(part, ses)
	s.putSession(ses)
	return Result{Session: ses.ID}, nil
}

// again answers a request that was made before.
func (c *OpenSession) again(ses *Session) (Result, *Error) {
	switch {
	case ses.Client != c.Session.Client:
		return Result{}, ErrInvalid.with("the request id is another client's")
	case ses.State != SessionActive:
		return Result{}, ErrEnded.with("session %s", ses.ID.Short())
	}
	return Result{Session: ses.ID}, nil
}

// replaces are the living sessions of the same device of the same client, by ID.
// Another client's with the same device are none of its.
func (c *OpenSession) replaces(s *State) (ends []*Session) {
	if !c.Track {
		return nil
	}
	for ses := range s.livingOn(c.Session.Client, c.Session.Device) {
		if ses.sameDevice(&c.Session) {
			ends = append(ends, ses)
		}
	}
	return ends
}

func (ses *Session) sameDevice(as *Session) bool {
	if ses.Device.IsZero() && as.Device.IsZero() {
		return ses.Key == as.Key
	}
	return ses.Device == as.Device
}

// limitSessions refuses one more session of a client than policy allows, beside
// those that it ends.
func (s *State) limitSessions(client string, ends []*Session) *Error {
	living := s.LivingSessions(client) - len(ends)
	if most := s.Policy.Sessions; most > 0 && living >= most {
		return ErrTooMany.with("client %s has %d sessions, at most %d", client, living, most)
	}
	return nil
}

// LivingSessions is how many sessions of a client are not over.
func (s *State) LivingSessions(client string) int {
	all := s.index.living
	return all.Rank(owner{client: nextName(client)}) - all.Rank(owner{client: client})
}

// nextName is the name right behind another one in order.
func nextName(name string) string { return name + "\x00" }

func (c *OpenSession) check(s *State) *Error {
	ses := c.Session
	switch {
	case !ses.Device.IsZero() && !c.Track:
		return ErrInvalid.with("a device, but no record of holders")
	case ses.ID == (SessionID{}) || ses.Request == (RequestID{}):
		return ErrInvalid.with("no session or request id")
	case s.Sessions.Has(ses.ID):
		return ErrExists.with("session %s", ses.ID.Short())
	case len(ses.Identity) != sha256.Size:
		return ErrInvalid.with("identity hash of %d bytes", len(ses.Identity))
	case ses.Mode != "" && !ses.Mode.valid():
		return ErrInvalid.with("mode %q", ses.Mode)
	case !s.Policy.Allows(cmp.Or(ses.Mode, s.Policy.Mode)):
		return ErrPolicy.with("mode %q, allowed are %v", ses.Mode, s.Policy.Modes)
	case !ses.Shares.valid():
		return ErrInvalid.with("shares %q", ses.Shares)
	}
	for _, sl := range c.Slices {
		if err := ses.peered(sl); err != nil {
			return err
		}
	}
	return checkSessionKey(ses.Key, ses.Hello)
}

// peered refuses a slice beside the node that the client named.
func (ses *Session) peered(sl Slice) *Error {
	if !ses.Peer.IsZero() && sl.Agent != ses.Peer {
		return ErrInvalid.with("slice on node %s, the peer is %s", sl.Agent.Short(), ses.Peer.Short())
	}
	return nil
}

func checkSessionKey(key identity.PublicKey, hello []byte) *Error {
	if key == (identity.PublicKey{}) {
		return ErrInvalid.with("no session key")
	}
	if len(hello) != sha256.Size {
		return ErrInvalid.with("hello hash of %d bytes", len(hello))
	}
	return nil
}

// admit is the session without its slices.
func (c *OpenSession) admit(s *State, p Part, leases []netip.Addr) *Session {
	ses := c.Session
	if ses.Certificate != nil {
		used := *ses.Certificate
		ses.Certificate = &used
	}
	kind := s.Cluster.Egress
	if !ses.Peer.IsZero() {
		kind = EgressLocal
	}
	now := &Session{
		Certificate: ses.Certificate, Peer: ses.Peer,
		ID: ses.ID, Client: one(ses.Client), Device: ses.Device, Request: ses.Request, Key: ses.Key,
		Holding: Holding{Tracked: c.Track},
		Leases:  leases, Egress: p.Egress, Second: p.Second, EgressKind: kind,
		Mode: one(cmp.Or(ses.Mode, s.Policy.Mode)), Shares: one(ses.Shares), SprayUDP: ses.SprayUDP, Bandwidth: ses.Bandwidth, Policy: s.Policy.Version,
		State: SessionActive, Opened: s.Tick,
	}
	now.hashes(nil, ses.Identity, ses.Hello)
	return now
}

// roomForSession reports whether one more session fits; when there are
// as many as there may be, the oldest ended one has to yield.
func (s *State) roomForSession() (yields *Session, ok bool) {
	if s.Sessions.Len() < s.Room().Sessions {
		return nil, true
	}
	for oldest := range s.index.ended.All() {
		return s.Sessions.Get(oldest.id), true
	}
	return nil, false
}

// active finds a session that is not over, of a client that may have one.
func (s *State) active(id SessionID) (*Session, *Error) {
	ses, ok := s.Sessions.Find(id)
	if !ok {
		return nil, ErrNotFound.with("session %s", id.Short())
	}
	if ses.State != SessionActive {
		return nil, ErrEnded.with("session %s", id.Short())
	}
	return ses, nil
}

func (c *EndSession) apply(s *State, _ entry) (Result, *Error) {
	ses, err := s.active(c.Session)
	if err != nil {
		return Result{}, err
	}
	s.endSession(ses, c.Reason, c.Bytes)
	return Result{Session: ses.ID}, nil
}

// ReasonReplaced is why a session ended whose device logged in again.
const ReasonReplaced = "replaced by a new login of the same device"

func (s *State) endSession(living *Session, reason string, bytes uint64) {
	ses := s.Sessions.Get(living.ID).copy() // the caller's may be older
	ses.State, ses.Reason, ses.Ended = SessionEnded, one(clip(reason)), s.Tick
	ses.Bytes = max(ses.Bytes, bytes)
	ses.Retiring = nil
	for i := range ses.Slices {
		ses.Slices[i].mark(SliceVoid, s.Tick)
	}
	s.releaseLeases(ses)
	s.putSession(ses)
}

// copy is the session to be changed and put in its place. It shares nothing that the change
// might reach.
func (ses *Session) copy() *Session {
	if len(ses.Slices) > usual || len(ses.Holders) > usual || len(ses.Leases) > usual {
		c := *ses
		return c.with(nil, nil, nil, nil)
	}
	made := &body{Session: *ses}
	return made.Session.with(made.both[:0], made.slices[:0], made.holders[:0], made.leases[:0])
}

// with makes the session have lists of its own, each in some room if it fits.
func (ses *Session) with(both []byte, epochs []Slice, holders []Holder, leases []netip.Addr) *Session {
	ses.hashes(both, ses.Identity, ses.Hello)
	ses.Slices, ses.Retiring = into(epochs, ses.Slices), slices.Clone(ses.Retiring)
	ses.Holders, ses.Leases = into(holders, ses.Holders), into(leases, ses.Leases)
	return ses
}

// ActiveSessions returns the sessions that are not over, by ID.
func (s *State) ActiveSessions() []*Session {
	var active []*Session
	for _, ses := range s.Sessions.Active() {
		active = append(active, ses)
	}
	return active
}

// EqualShares says that every slice of the session weighs the same: on request,
// and in mode packet, which knows no weights.
func (ses *Session) EqualShares() bool { return ses.Shares == SharesEqual || ses.Mode == ModePacket }

// newer reports whether the session says what only version 3 of the codecs knows.
func (ses *Session) newer() bool {
	return ses.Shares != "" || ses.SprayUDP || ses.Certificate != nil || !ses.Peer.IsZero()
}

// newest reports whether the session says what only version 4 of the codecs knows.
func (ses *Session) newest() bool { return !ses.Device.IsZero() || ses.recorded() }

func (s Shares) valid() bool { return s == "" || s == SharesCapacity || s == SharesEqual }
