package registry

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"unique"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// A session that is over is only listed, for a day, and there are many more of these than
// active ones. So it is kept as bytes, without what many have in common, and is made anew
// for who wants to see it.

// past is a session that is over, but for its ID.
type past struct {
	told   string // what none other has: see pack
	common unique.Handle[common]
	agents []unique.Handle[origin] // of its slices
}

// common is what sessions of one part are likely to share.
type common struct {
	egress, second, peer identity.NodeID
	kind                 EgressKind
	mode                 Mode
	shares               Shares
	spray                bool
	policy               uint64
	state                SessionState
	reason               string
}

// origin is the process of an agent that a slice was of.
type origin struct {
	agent identity.NodeID
	boot  identity.BootID
}

// settled reports whether past can say all of the session. It can of all that this
// build ends; what is read from elsewhere may say more.
func (ses *Session) settled() bool {
	stays := func(sl Slice) bool { return sl.State != SliceVoid }
	zoned := func(a netip.Addr) bool { return a.Zone() != "" }
	return ses != nil && ses.State == SessionEnded && ses.Retiring == nil &&
		!ses.Tracked && ses.Holders == nil && ses.Blind == 0 &&
		!slices.ContainsFunc(ses.Slices, stays) && !slices.ContainsFunc(ses.Leases, zoned)
}

// past packs a settled session.
func (ses *Session) past() *past {
	p := &past{told: string(ses.tell()), common: unique.Make(common{
		ses.Egress, ses.Second, ses.Peer, ses.EgressKind, ses.Mode, ses.Shares, ses.SprayUDP, ses.Policy, ses.State, ses.Reason,
	})}
	if len(ses.Slices) > 0 {
		p.agents = make([]unique.Handle[origin], len(ses.Slices))
	}
	for i, sl := range ses.Slices {
		p.agents[i] = unique.Make(origin{sl.Agent, sl.Boot})
	}
	return p
}

// tell appends what session reads, in the same order.
func (ses *Session) tell() []byte {
	to := make([]byte, 0, 512)
	to = append(to, ses.Request[:]...)
	to = append(to, ses.Key[:]...)
	to = appendBytes(to, ses.Identity)
	to = appendBytes(to, ses.Hello)
	to = appendBytes(to, []byte(ses.Client))
	to = appendFlag(to, !ses.Device.IsZero())
	if !ses.Device.IsZero() {
		to = append(to, ses.Device[:]...)
	}
	to = appendFlag(to, ses.Certificate != nil)
	if ses.Certificate != nil {
		to = ses.Certificate.tell(to)
	}
	to = appendCount(to, ses.Leases)
	for _, a := range ses.Leases {
		to = appendBytes(to, a.AsSlice())
	}
	for _, n := range []uint64{ses.Bandwidth, uint64(ses.Opened), uint64(ses.Ended), ses.Bytes} {
		to = binary.AppendUvarint(to, n)
	}
	to = appendCount(to, ses.Slices)
	for _, sl := range ses.Slices {
		to = sl.tell(to)
	}
	return to
}

// remade is a session that is over, and the memory of all that it says.
type remade struct {
	Session
	certificate Certificate
	identity    []byte
	hello       []byte
	leases      []netip.Addr
	slices      []Slice
}

// session makes one anew, in place of the one before.
func (r *remade) session(id SessionID, p *past) *Session {
	c, from := p.common.Value(), told(p.told)
	r.Session = Session{
		ID: id, Egress: c.egress, Second: c.second, Peer: c.peer, EgressKind: c.kind, Mode: c.mode, Shares: c.shares,
		SprayUDP: c.spray, Policy: c.policy, State: c.state, Reason: c.reason,
	}
	from.fill(r.Request[:])
	from.fill(r.Key[:])
	r.Identity, r.Hello = from.bytes(&r.identity), from.bytes(&r.hello)
	r.Client = one(from.word())
	if from.flag() {
		from.fill(r.Device[:])
	}
	if from.flag() {
		from.certificate(&r.certificate)
		r.Certificate = &r.certificate
	}
	if n, some := from.count(); some {
		r.Leases = sized(&r.leases, n)
	}
	for i := range r.Leases {
		r.Leases[i], _ = netip.AddrFromSlice([]byte(from.word()))
	}
	r.Bandwidth, r.Opened, r.Ended, r.Bytes = from.number(), Tick(from.number()), Tick(from.number()), from.number()
	if n, some := from.count(); some {
		r.Slices = sized(&r.slices, n)
	}
	for i := range r.Slices {
		at := p.agents[i].Value()
		r.Slices[i] = from.slice(at.agent, at.boot)
	}
	return &r.Session
}

// sized is a list of so many in some room, which grows.
func sized[T any](room *[]T, n int) []T {
	if *room == nil || cap(*room) < n {
		*room = make([]T, n)
	}
	return (*room)[:n:n]
}

func (c *Certificate) tell(to []byte) []byte {
	to = append(to, c.ID[:]...)
	for _, word := range []string{c.Authority, c.Serial, c.Client} {
		to = appendBytes(to, []byte(word))
	}
	return appendFlag(binary.AppendVarint(to, c.Ends), c.Revoked)
}

// tell says all of a void slice but whose it was.
func (sl *Slice) tell(to []byte) []byte {
	to = appendFlag(append(to, sl.Number, sl.Class), sl.Spare)
	for _, n := range []uint64{
		uint64(sl.Epoch), uint64(sl.Suite), uint64(sl.SPI), uint64(sl.Weight), sl.Index, sl.Term, uint64(sl.Since),
	} {
		to = binary.AppendUvarint(to, n)
	}
	return to
}

// appendCount tells how many there are, and of none whether the list is nil.
func appendCount[T any](to []byte, list []T) []byte {
	if list == nil {
		return append(to, 0)
	}
	return binary.AppendUvarint(to, uint64(len(list))+1)
}

func appendBytes(to, b []byte) []byte { return append(appendCount(to, b), b...) }

func appendFlag(to []byte, set bool) []byte {
	if set {
		return append(to, 1)
	}
	return append(to, 0)
}
