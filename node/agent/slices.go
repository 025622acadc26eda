package agent

import (
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// sliceKey names one epoch of a slice.
type sliceKey struct {
	session registry.SessionID
	number  uint8
	epoch   uint32
}

// slice is one granted epoch at its agent. It is owned by the control loop;
// its pairs are shared with the packet engine, which only adds to counters.
type slice struct {
	key         sliceKey
	grant       granted
	rule        *protocol.RuleRow // told with the grant; nil by an arbiter from before there were rules
	from        identity.NodeID   // the node it is for; zero: a client
	machine     *mka.Agent
	pair        *dataplane.Pair    // nil until the client's Accept
	older       *dataplane.Pair    // superseded by a rekey, still opening
	next        *dataplane.Pair    // keyed by a rekey, not yet proven by the client
	up          bool               // first valid ESP seen and reported
	since       time.Duration      // granted, or the birth of the present keys
	dropAt      time.Duration      // 0, or when a revoked slice ends
	confirmedAt time.Duration      // the last Confirm was sent
	olderAt     time.Duration      // when older is released
	offer       [][]byte           // of the next rekey, until it is answered
	rekeyed     time.Duration      // when the offer was last sent
	alarmed     *dataplane.Pair    // the pair whose forgeries were told
	told        allowance          // of verdicts its client may say
	local       *dataplane.Spread  // of this host's own packets to the client
	answers     *dataplane.Route   // of those
	shown       [3]*dataplane.Pair // of the table that was published last
	due         time.Duration      // when it is looked at again
	place       int                // among those that are due, from 1; 0: it is not
	said        saidUsage
	mark        atomic.Uint64 // under which its client says that it is parked; 0: it does not
}

// granted is what is needed of a grant while its slice lives.
type granted struct {
	SPI               uint32 // of the prekey: it names the slice whatever rekeys came since
	Leases            []netip.Addr
	Incarnation, Term uint64
}

// pairs are the SA pairs of a slice that exist.
func (s *slice) pairs() (all []*dataplane.Pair) {
	for _, p := range []*dataplane.Pair{s.pair, s.older, s.next} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

func (k sliceKey) ref() protocol.SliceRef {
	return protocol.SliceRef{Session: k.session, Number: k.number, Epoch: k.epoch}
}

func keyOf(r protocol.SliceRef) sliceKey { return sliceKey{r.Session, r.Number, r.Epoch} }

// takeGrant checks a slice grant and answers with an accept or a refusal.
func (a *Agent) takeGrant(m *protocol.Grant) {
	defer clear(m.Share)
	s, err := a.newSlice(m)
	if s == nil {
		a.config.Log.Warn("grant refused", "error", err)
		return
	}
	ack := &protocol.SliceAck{Slice: s.key.ref(), Ok: err == nil}
	if err != nil {
		ack.Reason = err.Error()
		a.config.Log.Warn("grant refused", "session", s.key.session, "slice", s.key.number, "error", err)
	} else {
		a.slices.add(s)
	}
	a.say(&protocol.Node{Ack: ack})
}

// Why a grant is refused, beside mka's own reasons.
var (
	errFull       = errors.New("this agent holds as many slices as it may")
	errStranger   = errors.New("this agent knows no such node")
	errSuperseded = errors.New("this agent holds a newer epoch of the slice")
	errFormer     = errors.New("this agent holds the epoch as it was granted before the mesh was recovered")
	errShare      = errors.New("the share has the wrong length")
)

// shareOf copies an arbiter's share of a slice's keys; not ok for another length.
func shareOf(b []byte) (share mka.Share, ok bool) {
	copy(share[:], b)
	return share, len(b) == len(share)
}

// newSlice verifies the arbiter's signature, the fence and the prekey. It
// returns a slice without machine, and why, when the agent must refuse; and
// nothing at all when the grant does not even say what it is for.
func (a *Agent) newSlice(m *protocol.Grant) (*slice, error) {
	checked, err := mka.CheckGrant(m.Grant, a.stream.Arbiter)
	if err != nil {
		return nil, err
	}
	grant := &checked.Grant
	s := &slice{key: sliceKey{grant.Session, grant.Slice, grant.Epoch}, rule: m.Rule, since: a.config.Now(),
		local: dataplane.NewSpread(a.config.Engine.Queues()), grant: granted{grant.SPI, grant.Leases, grant.Incarnation, grant.Term}}
	if grant.Mode == protocol.ModeLink {
		if s.from = identity.NodeID(grant.IdentityHash); a.view.nodeByID(s.from).Index == 0 {
			return s, errStranger
		}
	}
	switch known := a.slices.byKey[s.key]; {
	case known == nil:
	case known.grant.Incarnation < grant.Incarnation:
		return s, errFormer
	default:
		return known, nil // the arbiter asks again after an unknown outcome
	}
	if len(a.slices.byKey) >= MaxSlices {
		return s, errFull
	}
	if a.slices.supersedes(s) {
		return s, errSuperseded
	}
	share, ok := shareOf(m.Share)
	defer clear(share[:])
	if !ok {
		return s, errShare
	}
	secret := a.prekeys.take(grant.SPI)
	if secret == nil {
		return s, mka.ErrPrekey
	}
	if s.machine, err = checked.NewAgent(&share, secret, a.config.Key, a.floor); err != nil {
		secret.Expire()
		return s, err
	}
	return s, nil
}

// takeRevoke lets the slice go on for the linger, which is for packets under
// way; without one it ends at once.
func (a *Agent) takeRevoke(m *protocol.Revoke) {
	s := a.slices.byKey[keyOf(m.Slice)]
	if s == nil {
		return
	}
	s.dropAt = a.config.Now() + time.Duration(m.Linger)*time.Second
	a.touched(s)
	a.superviseSlices(a.config.Now())
}

// accepted is a client's M4, received by the packet engine on the outer socket.
type accepted struct {
	from     link.Socket
	path     link.Path
	spi      uint32
	datagram []byte
}

// apply answers a good Accept with a Confirm and is silent otherwise.
func (e accepted) apply(a *Agent) {
	s := a.slices.bySPI[e.spi]
	if s == nil {
		a.rejects.count("accept-unknown")
		return
	}
	if !s.from.IsZero() { // a node is where the view says, wherever its Accept came from
		e.from, e.path = a.config.Inside, link.Path{Remote: a.insideOf(a.view.nodeByID(s.from))}
	}
	now := a.config.Now()
	if s.answered(now) {
		a.rejects.count("accept-repeated")
		return
	}
	confirm, keys, err := s.machine.Accept(e.datagram)
	if err != nil {
		a.rejects.count("accept-refused")
		a.config.Log.Debug("accept refused", "session", s.key.session, "error", err)
		return
	}
	if keys != nil {
		if s.pair, err = a.newPair(s, *keys); err != nil {
			a.config.Log.Error("slice not keyed", "error", err)
			return
		}
		if !s.from.IsZero() {
			s.pair.SetWay(e.from, e.path)
		}
		s.since = now
		a.endOlderLinks(s)
		a.touched(s)
		a.publishIfDirty() // the client may send as soon as it sees the Confirm
	}
	s.confirmedAt = now
	if s.from.IsZero() && !s.pair.Begin(e.from, e.path, len(e.datagram)-len(confirm), int64(now)) {
		a.rejects.count("accept-ways")
		return
	}
	if err := e.from.Send(confirm, len(confirm), e.path); err != nil {
		a.config.Log.Debug("confirm not sent", "error", err)
	}
}

// answered reports whether the client has its Confirm, or was sent one just
// now. Whoever recorded its Accept may repeat it from anywhere, for ever.
func (s *slice) answered(now time.Duration) bool {
	return s.pair != nil && (s.pair.LastHeard() != 0 || now-s.confirmedAt < AcceptAgain)
}

// newPair turns agreed keys into an SA pair for the engine, and wipes them.
func (a *Agent) newPair(s *slice, keys mka.Keys) (*dataplane.Pair, error) {
	pair, err := a.keyPair(keys)
	if err != nil {
		return nil, err
	}
	pair.Leases, pair.Agent, pair.Socket = s.grant.Leases, true, a.socketOf(s)
	if !s.from.IsZero() {
		pair.Node = a.view.nodeByID(s.from).Index
	}
	if s.pair != nil {
		pair.SetSizes(s.pair.Sizes())
		pair.SetRule(s.pair.Rule())
	}
	key := s.key
	mark := &s.mark
	pair.Control = func(payload []byte) { a.control(key, mark, pair, payload) }
	return pair, nil
}

// socketOf is the way to a slice's other end: a client outside, a node inside.
func (a *Agent) socketOf(s *slice) link.Socket {
	if s.from.IsZero() {
		return a.config.Outer
	}
	return a.config.Inside
}

// endOlderLinks lets earlier SAs with the same node run out.
func (a *Agent) endOlderLinks(s *slice) {
	for _, other := range a.slices.byNode[s.from] {
		if other != s && other.dropAt == 0 {
			other.dropAt = a.config.Now() + RekeyLinger
		}
	}
}

// keyPair makes the SAs of agreed keys, and wipes those.
func (a *Agent) keyPair(keys mka.Keys) (*dataplane.Pair, error) {
	defer keys.Wipe()
	if log := a.config.KeyLog; log != nil {
		log(keys.SPIIn, keys.In)
		log(keys.SPIOut, keys.Out)
	}
	in, err := esp.NewInbound(keys.SPIIn, keys.In, esp.DefaultLimits())
	if err != nil {
		return nil, err
	}
	out, err := esp.NewOutbound(keys.SPIOut, keys.Out, esp.DefaultLimits(), a.config.Ledger)
	if err != nil {
		return nil, err
	}
	return &dataplane.Pair{In: in, Out: out, Ends: int64(a.config.Now() + KeysEnd)}, nil
}

// superviseSlices ends what was revoked or never accepted, reports slices
// that came up, and rekeys in time.
func (a *Agent) superviseSlices(now time.Duration) {
	a.refillPrekeys(now)
	if a.headless(now) {
		for _, s := range a.slices.inOrder() {
			a.superviseSlice(s, now)
		}
	}
	for _, all := range a.slices.byNode {
		for _, s := range slices.Clone(all) { // whether they are wanted nothing says but the view
			a.superviseSlice(s, now)
		}
	}
	for s := a.slices.takeDue(now); s != nil; s = a.slices.takeDue(now) {
		a.superviseSlice(s, now)
		if a.slices.holds(s) {
			a.slices.schedule(s, a.nextLook(s, now))
		}
	}
}

func (a *Agent) superviseSlice(s *slice, now time.Duration) {
	a.looks++
	if s.next != nil && s.next.LastHeard() != 0 {
		a.switchKeys(s, now)
	}
	switch {
	case s.dropAt != 0 && now >= s.dropAt:
		a.dropSlice(s, "taken back") // its session is over, or it moved
	case !s.from.IsZero() && (a.view.nodeByID(s.from).Index == 0 || !a.sealed()):
		a.dropSlice(s, "no longer wanted")
	case s.pair == nil && now-s.since > AcceptWithin:
		a.dropSlice(s, "no accept from the client")
	case a.headless(now):
		a.dropSlice(s, "no word from an arbiter for too long")
	case s.pair != nil && s.pair.Over(int64(now)):
		a.dropSlice(s, "the client did not renew its keys")
	case s.pair != nil:
		a.superviseKeys(s, now)
	}
}

// settle forgets how the keys were agreed that the client uses now.
func (s *slice) settle() {
	if s.machine != nil {
		s.machine.Settle()
	}
}

func (a *Agent) headless(now time.Duration) bool {
	limit := time.Duration(a.view.policy.Headless) * time.Second
	return limit > 0 && now-a.wordAt > limit
}

// superviseKeys is the life of one slice's keys.
func (a *Agent) superviseKeys(s *slice, now time.Duration) {
	if !s.up && s.pair.LastHeard() != 0 {
		s.up = true
		s.settle()
		a.touched(s)
		ref := s.key.ref()
		a.say(&protocol.Node{Up: &ref})
	}
	if s.older != nil && now >= s.olderAt {
		a.release(s)
	}
	if heard := time.Duration(s.pair.LastHeard()); heard != 0 && now-heard > WaySilent && s.from.IsZero() {
		s.pair.Leave()
	}
	s.pair.Forget(int64(now))
	a.superviseRekey(s, now)
}

// release ends the SA that a rekey superseded. The granted SPI stays the
// slice's: the egress names the slice by it.
func (a *Agent) release(s *slice) {
	if s.older == nil {
		return
	}
	s.older.Out.Stop()
	if spi := s.older.In.SPI(); spi != s.grant.SPI {
		delete(a.slices.bySPI, spi)
	}
	s.older = nil
	a.touched(s)
}

// dropSlice forgets a slice and its keys.
func (a *Agent) dropSlice(s *slice, reason string) {
	for _, p := range s.pairs() {
		p.Out.Stop()
	}
	if s.machine != nil {
		s.machine.Wipe()
	}
	a.slices.remove(s)
	ref := s.key.ref()
	ref.Reason = reason
	a.say(&protocol.Node{Gone: &ref})
	a.config.Log.Info("slice freed", "session", s.key.session, "slice", s.key.number, "epoch", s.key.epoch, "reason", reason)
	a.touched(s)
}
