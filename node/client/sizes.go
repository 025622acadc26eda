package client

import (
	"errors"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// sizing is what the client knows of how large packets of one slice may be, and
// what its agent was told of it.
type sizing struct {
	search *pmtu.Search
	rests  bool // its path is taken for what the slices before had, until something is moved
	inside int  // what the agent's inside network takes in a hand-on; 0: anything
	say    spoken
	heard  spoken // that the agent confirmed
	token  uint32 // of the last probe
	since  uint32 // the first one that said this
	saidAt time.Duration
	tries  int
}

// spoken is what a client tells an agent.
type spoken struct{ mtu, limit int }

// superviseSizes measures every slice's path, makes one MTU of them, and tells
// the agents until they confirm.
func (c *Client) superviseSizes(now time.Duration) {
	c.wakeSizes()
	for _, s := range c.slices {
		if s.confirmed && s.retireAt == 0 {
			c.measure(s, now)
		}
	}
	c.notePath()
	c.settleMTU()
	for _, s := range c.slices {
		if s.confirmed && s.retireAt == 0 {
			c.tellSizes(s, now)
		}
	}
}

// trustPath lets the path of a new slice be what the ones before it had, where its client came
// back and moves nothing: nothing is measured until it does. Of ten thousand that come at once
// each would have the nodes carry two packets of up to 9,000 bytes for each slice. Its agent is
// told nothing and takes the path to carry pmtu.Legacy, so it is not for who knows of less.
func (c *Client) trustPath(s *slice, now time.Duration) {
	back := c.session != nil && c.session.resumed && c.unused() && !c.sends(now)
	if z := &s.sizing; back && !c.pathDoubted && c.path.Size() >= pmtu.Legacy {
		z.rests = z.search.Assume()
	}
}

// wakeSizes has paths measured that were taken for what they were before, as soon as anything is
// moved over any of them.
func (c *Client) wakeSizes() {
	moves := !c.unused()
	for _, s := range c.slices {
		moves = moves || s.sizing.rests && (s.moved() || s.direct.inUse())
	}
	if !moves {
		return
	}
	for _, s := range c.slices {
		s.sizing.rests = false
	}
}

// moved reports whether the slice carried anything under its present keys.
func (s *slice) moved() bool { return s.pair.LastSent() != 0 || s.pair.Counters().PacketsIn > 0 }

// doubtPath has everything measured anew: this host's own network is another one.
func (c *Client) doubtPath() {
	c.pathDoubted = true
	for _, s := range c.slices {
		s.sizing.rests = false
	}
}

// notePath remembers what the way through a gateway was found to carry: what a new slice begins
// with, or each of thousands of clients that come back at once would send fifteen packets, of
// up to 9,000 bytes, that are answered as large. Where slices differ it is the narrowest: that
// is the session's MTU, so what is wider serves nobody, and where the new slice's own path is as
// narrow a wider one has it search from the beginning. Ways through other gateways are mostly
// alike: what is narrow is at the client's own end.
func (c *Client) notePath() {
	var narrowest *pmtu.Search
	for _, s := range c.slices {
		if s.proven() && !s.direct.inUse() && s.sizing.search.Narrower(narrowest) {
			narrowest = s.sizing.search
		}
	}
	if narrowest != nil {
		c.path, c.pathDoubted = *narrowest, false // its own forgets, as it moves
	}
}

// measure sends the padded probes that are due on one slice.
func (c *Client) measure(s *slice, now time.Duration) {
	if c.transport.stream != nil || s.sizing.rests {
		return // a stream takes any size, and is to be left again; who moves nothing needs no size
	}
	if p := &s.pulse; p.mute != 0 && now-p.mute > MutePart*ProbeActive {
		return // what does not answer at all shows nothing of sizes
	}
	s.sizing.decide(c.mtu)
	for _, size := range s.sizing.search.Step(pmtu.Tick{
		Now: now, Heard: s.pulse.heardAt, Patience: s.pulse.rtt.Silence(), Active: now-c.lastSent(s) < ActiveFor,
	}) {
		if errors.Is(c.sendPadded(s, size), link.ErrTooBig) {
			s.sizing.search.Refuse(size)
		} else {
			s.sizing.told(now)
		}
		if now-s.pulse.askedAt >= ProbeActive {
			c.ask(s, now) // what is lost says something only beside what is not
		}
	}
}

// sendPadded sends one probe that fills a packet of the size, and tells the
// agent the sizes in force.
func (c *Client) sendPadded(s *slice, size int) error {
	z := &s.sizing
	z.token++
	return s.pair.SendPadded(probe.Padded{
		Size: size, Token: z.token, MTU: uint16(z.say.mtu), Limit: uint16(z.say.limit),
	}.Marshal(probe.KindPadded))
}

// settleMTU makes the smallest of all measured paths the session's MTU.
func (c *Client) settleMTU() {
	mtu := 0
	for _, s := range c.slices {
		z := &s.sizing
		if !s.usable() || !z.search.Measured() && !z.search.Settled() {
			continue
		}
		least := z.search.Size()
		if z.inside > 0 {
			least = min(least, z.inside)
		}
		if mtu == 0 || least < mtu {
			mtu = least
		}
	}
	if mtu == 0 {
		return
	}
	if mtu = max(mtu, pmtu.MinMTU); mtu == c.mtu {
		return
	}
	c.config.Log.Info("inner MTU", "bytes", mtu, "was", c.mtu)
	c.mtu = mtu
	if err := c.config.Host.SetMTU(mtu); err != nil {
		c.config.Log.Error("the tunnel's MTU is not set", "error", err)
	}
}

// tellSizes puts the sizes in force at this end, and says them to the agent
// until it confirms; one that never does is older than this.
func (c *Client) tellSizes(s *slice, now time.Duration) {
	z := &s.sizing
	z.decide(c.mtu)
	for _, p := range s.pairs() {
		p.SetSizes(z.say.mtu, z.say.limit)
	}
	if z.rests || z.say == z.heard || z.tries >= SizeTries || z.tries > 0 && now-z.saidAt < SizeRetry {
		return
	}
	z.tries, z.saidAt = z.tries+1, now
	_ = c.sendPadded(s, probe.LenPadded) // repeated
}

// padded takes an agent's answer.
func (c *Client) padded(s *slice, payload []byte, now time.Duration) {
	reply, ok := probe.ParsePadded(payload, probe.KindPaddedReply)
	if !ok {
		return
	}
	z := &s.sizing
	z.inside = int(reply.MTU)
	if reply.Token >= z.since {
		z.heard = z.say
	}
	if reply.Size > probe.LenPadded {
		z.search.Pass(reply.Size, now)
		c.settleMTU()
		c.tellSizes(s, now)
	}
}

// decide takes what is to be in force. A probe of the path says it as well as what is sent to
// say it.
func (z *sizing) decide(mtu int) {
	if want := (spoken{mtu, z.search.Size()}); want != z.say {
		z.say = want
		z.retell()
	}
}

// told notes that a probe said it, so that it is said alone only if that is not answered.
func (z *sizing) told(now time.Duration) {
	if z.tries == 0 {
		z.tries, z.saidAt = 1, now
	}
}

// retell forgets what the agent confirmed: it was something else, or its keys are new.
func (z *sizing) retell() { z.heard, z.tries, z.since = spoken{}, 0, z.token+1 }
