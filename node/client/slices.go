package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// sliceKey names one epoch of a slice of this session.
type sliceKey struct {
	number uint8
	epoch  uint32
}

func (k sliceKey) ref() protocol.SliceRef {
	return protocol.SliceRef{Number: k.number, Epoch: k.epoch}
}

// slice is one epoch of a slice at the client. It is owned by the control
// loop; its pairs are shared with the packet engine.
type slice struct {
	key       sliceKey
	grant     mka.Grant
	weight    uint32 // the grant's, until the arbiter gives another
	spare     bool
	inside    netip.Addr        // the agent's host itself
	last      *dataplane.Spread // of packets for it
	machine   *mka.Client
	socket    link.Socket
	pair      *dataplane.Pair
	older     *dataplane.Pair // superseded by a rekey, still opening
	next      *dataplane.Pair // keyed by a rekey, waits for the agent's Confirm
	olderAt   time.Duration
	accept    []byte // repeated until the Confirm
	sentAt    time.Duration
	tries     int
	confirmed bool          // the agent proved its keys
	untold    bool          // the arbiter was not told so yet
	condemned bool          // silent, or of no use, while a sibling is heard
	verdictAt time.Duration // when the egress was told so last
	vouches   int           // how often it is to be told yet that it is so no more
	retireAt  time.Duration // 0, or when a dropped epoch is forgotten
	pulse     pulse
	sizing    sizing
	direct    direct
}

// held reports whether the agent has keys for this epoch and is to use them.
func (s *slice) held() bool { return s.confirmed && s.retireAt == 0 }

// usable reports whether runs may be sealed for this epoch.
func (s *slice) usable() bool { return s.held() && !s.condemned }

// proven reports whether a usable slice was heard through the gateway in use.
func (s *slice) proven() bool { return s.usable() && !s.pulse.trial }

var errFull = errors.New("client: as many slices as a session may have")

// takeOffer answers a slice offer with an Accept to its agent.
func (c *Client) takeOffer(offer *protocol.SliceOffer) {
	if len(c.slices) >= MaxSlices {
		c.config.Log.Warn("slice offer not usable", "error", errFull)
		return
	}
	s, err := c.newSlice(offer)
	if err == nil {
		err = c.attach(s)
	}
	if err != nil {
		c.config.Log.Warn("slice offer not usable", "error", err)
		return
	}
	c.forgetFormer(s)
	if c.slices[s.key] != nil {
		s.end()
		return
	}
	c.slices[s.key] = s
	c.dirty = true
	c.publishIfDirty() // the answer may come at once
	c.sendAccept(s, c.config.Now())
}

// forgetFormer ends what takes the place of a new slice by its number and epoch, and is of an
// earlier incarnation: a mesh that a build without registry.State.EpochFloor recovered, by a log
// which lacked its end, grants epochs anew that there were, to other agents, and knows nothing of
// later ones.
func (c *Client) forgetFormer(s *slice) {
	for key, had := range c.slices {
		if key.number == s.key.number && key.epoch >= s.key.epoch && had.grant.Incarnation < s.grant.Incarnation {
			c.forget(had)
		}
	}
}

// newSlice checks an offer, agrees keys and opens the slice's own socket.
func (c *Client) newSlice(offer *protocol.SliceOffer) (*slice, error) {
	if c.control == nil {
		return nil, fmt.Errorf("%w: an offer without a connection", mka.ErrOrder)
	}
	var share mka.Share
	if len(offer.Share) != len(share) {
		return nil, fmt.Errorf("%w: share of %d bytes", mka.ErrMalformed, len(offer.Share))
	}
	copy(share[:], offer.Share)
	clear(offer.Share)
	machine, accept, keys, err := mka.NewClient(c.config.Random, c.key, offer.Grant, c.control.arbiter,
		offer.Prekey, &share, c.control.hello, c.freshSPI())
	if err != nil {
		return nil, err
	}
	grant := machine.Grant()
	socket, err := c.config.Open()
	if err != nil {
		keys.Wipe()
		machine.Wipe()
		return nil, fmt.Errorf("no socket for a slice: %w", err)
	}
	s := &slice{
		key: sliceKey{grant.Slice, grant.Epoch}, grant: grant, weight: grant.Weight, spare: offer.Spare,
		inside: offer.Inside, last: dataplane.NewSpread(c.config.Engine.Queues()),
		machine: machine, socket: socket, accept: accept,
		sizing: sizing{search: pmtu.Like(&c.path, c.gateways.at(c.gateways.current).Addr().Is6())},
	}
	c.trustPath(s, c.config.Now())
	if offer.Direct {
		s.direct.ways = grant.Gateways
	}
	if s.pair, err = c.newPair(s, keys); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// attach has the engine listen at a slice's socket; a slice that is not heard there is
// none, and its keys end.
func (c *Client) attach(s *slice) error {
	err := c.config.Engine.Attach(s.socket)
	if err != nil {
		s.end()
	}
	return err
}

// newPair turns agreed keys into an SA pair along its slice's way, and wipes
// them.
func (c *Client) newPair(s *slice, keys mka.Keys) (*dataplane.Pair, error) {
	defer keys.Wipe()
	if log := c.config.KeyLog; log != nil {
		log(keys.SPIIn, keys.In)
		log(keys.SPIOut, keys.Out)
	}
	in, err := esp.NewInbound(keys.SPIIn, keys.In, esp.DefaultLimits())
	if err != nil {
		return nil, err
	}
	out, err := esp.NewOutbound(keys.SPIOut, keys.Out, esp.DefaultLimits(), c.config.Ledger)
	if err != nil {
		return nil, err
	}
	key := s.key
	pair := &dataplane.Pair{
		In: in, Out: out, Leases: append([]netip.Addr(nil), s.grant.Leases...), Socket: s.socket,
		Ends:    int64(c.config.Now() + dataplane.KeyLife),
		Control: func(payload []byte) { c.speaks(key, payload) },
	}
	c.aim(s, pair)
	return pair, nil
}

// freshSPI is an SPI_C that no other SA of this client has.
func (c *Client) freshSPI() uint32 {
	for {
		var raw [4]byte
		// A reader that fails would have failed the key made from it before.
		_, _ = c.config.Random.Read(raw[:])
		spi := binary.BigEndian.Uint32(raw[:])
		if spi >= mka.MinSPI && !c.usesSPI(spi) {
			return spi
		}
	}
}

func (c *Client) usesSPI(spi uint32) bool {
	for _, s := range c.slices {
		for _, p := range s.pairs() {
			if p.In.SPI() == spi {
				return true
			}
		}
	}
	return false
}

// pairs are the SA pairs that still open packets.
func (s *slice) pairs() []*dataplane.Pair {
	var all []*dataplane.Pair
	for _, p := range []*dataplane.Pair{s.pair, s.older, s.next} {
		if p != nil {
			all = append(all, p)
		}
	}
	return all
}

func (c *Client) sendAccept(s *slice, now time.Duration) {
	s.sentAt = now
	s.tries++
	if err := s.pair.Send(s.accept); err != nil {
		c.config.Log.Debug("accept not sent", "slice", s.key.number, "error", err)
	}
}

// superviseAccepts repeats an Accept, byte for byte, until its Confirm or
// until the slice is given up.
func (c *Client) superviseAccepts(now time.Duration) {
	for _, s := range c.inOrder() {
		switch {
		case s.confirmed || s.retireAt != 0 || now-s.sentAt < AcceptRetry:
		case s.tries < AcceptTries:
			c.sendAccept(s, now)
		default:
			c.config.Log.Warn("an agent does not answer", "slice", s.key.number, "agent", s.grant.Agent.Short())
			ref := s.key.ref()
			ref.Reason = "no confirm"
			c.say(&protocol.Client{Silent: &ref})
			c.forget(s)
		}
	}
}

// Confirm is M5, received by the packet engine.
type confirm struct{ datagram []byte }

// ReceiveMarked is the packet engine's callback for marked datagrams.
func (c *Client) ReceiveMarked(_ link.Socket, _ link.Path, m dataplane.Marker, datagram []byte) {
	if m.Type != dataplane.MarkerConfirm || len(c.outside) == cap(c.outside) {
		c.refusals.full.Add(1)
		return
	}
	select {
	case c.outside <- confirm{append([]byte(nil), datagram...)}:
	default: // the agent repeats it when asked again
		c.refusals.full.Add(1)
	}
}

// apply proves the agent's keys; the first probe is our own proof (M6).
func (e confirm) apply(c *Client) {
	for _, s := range c.slices {
		if s.confirmed || s.machine.Confirm(e.datagram) != nil {
			continue
		}
		s.confirmed = true
		s.accept = nil
		now := c.config.Now()
		c.supersede(s.key, now)
		s.pulse.restart(now)
		c.ask(s, now)
		c.superviseSizes(now)
		s.untold = true
		c.tellUps(now, false)
		c.dirty = true
		c.config.Log.Debug("slice keyed", "slice", s.key.number, "epoch", s.key.epoch, "agent", s.grant.Agent.Short())
		return
	}
	c.refusals.useless.Add(1)
}

// retire stops using an epoch at once and forgets it when late packets are over.
func (c *Client) retire(key sliceKey, now time.Duration) {
	if s := c.slices[key]; s != nil && s.retireAt == 0 {
		s.retireAt = now + RetireAfter
		c.dirty = true
	}
}

// supersede retires older epochs of a slice once its newer one is keyed. The
// arbiter says so too, unless it died in between.
func (c *Client) supersede(newer sliceKey, now time.Duration) {
	for key := range c.slices {
		if key.number == newer.number && key.epoch < newer.epoch {
			c.retire(key, now)
		}
	}
}

func (c *Client) superviseRetired(now time.Duration) {
	for _, s := range c.slices {
		if s.retireAt != 0 && now >= s.retireAt {
			c.forget(s)
			continue
		}
		if s.older != nil && now >= s.olderAt {
			s.older.Out.Stop()
			c.ended += movedBy(s.older)
			s.older = nil
			c.dirty = true
		}
	}
}

// forget ends a slice's keys and its socket.
func (c *Client) forget(s *slice) {
	delete(c.slices, s.key)
	s.end()
	for _, p := range s.pairs() {
		c.ended += movedBy(p)
	}
	c.dirty = true
}

// end is that of a slice's keys and its socket, in use or not.
func (s *slice) end() {
	for _, p := range s.pairs() {
		p.Out.Stop()
	}
	if s.machine != nil {
		s.machine.Wipe()
	}
	s.socket.Close()
}

func (c *Client) closeSlices() {
	for _, s := range c.slices {
		c.forget(s)
	}
	c.publishIfDirty()
}

type controlMessage struct {
	key     sliceKey
	payload []byte
}

// apply handles an authenticated control message of an agent.
func (e controlMessage) apply(c *Client) {
	s := c.slices[e.key]
	if s == nil || len(e.payload) == 0 {
		return
	}
	now := c.config.Now()
	switch e.payload[0] {
	case probe.KindReply:
		if r, ok := probe.ParseReply(e.payload); ok && r.Sequence >= s.pulse.first {
			c.takeReply(s, r, now)
		}
	case probe.KindWord:
		c.takeWord(s, e.payload, now)
	case probe.KindCall:
		c.parking.stays = true
		c.come("it is called")
	case probe.KindLeaving:
		c.leaveClosing(e.payload, now)
	case probe.KindSeen:
		c.askOthers(now)
	case probe.KindPaddedReply:
		c.padded(s, e.payload, now)
	case probe.KindPrekeyPart:
		c.takeRekeyOffer(s, e.payload[1:])
	case probe.KindConfirm:
		c.finishRekey(s, e.payload[1:], now)
	}
}

// takeReply is an agent's answer to a probe along the slice's present way.
func (c *Client) takeReply(s *slice, r probe.Reply, now time.Duration) {
	s.pulse.answered(r, now)
	c.dirty = s.pulse.measured(r.Sequence, now) || c.dirty
	c.hears(s)
}
