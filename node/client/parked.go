package client

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// A client at rest parks: it closes its control connection by agreement, asks its agents
// as it does anyway, and comes when they call it, or when it has something to say itself
// (node/DESIGN.md, "Parked clients"). To come is to resume the session as after any loss
// of a connection, so nothing else has to know of it.

// parking is whether it does. The loop's, but for rests and through.
type parking struct {
	mark   probe.Mark    // what it says to its agents; 0: it is not parked
	since  time.Duration // of that
	stays  bool          // since it parked last it moved more than a trickle, or was called
	calm   time.Duration // since when nothing was under way and little was moved
	asked  time.Duration // the arbiter, over the present connection; 0: not yet
	looked time.Duration // at what was moved
	moved  uint64        // then
	moves  time.Duration // until when its slices may be on their way to another gateway; 0: they are on none
	vain   int           // wishes to park in a row that came to nothing, or soon to an end

	closing []netip.AddrPort // gateways that are to stop, as agents said since it is parked

	rests   atomic.Bool  // the dialer is to make no connection
	through atomic.Int64 // the gateway of the data path, when it may again
}

// superviseParking parks when nothing was to be done for a while, and comes when
// something is.
func (c *Client) superviseParking(now time.Duration) {
	p := &c.parking
	why, settled := "", c.settled()
	if settled {
		p.moves = 0
	}
	switch {
	case c.session == nil:
		return
	case !settled && now >= p.moves:
		why = "a slice is not as it should be"
	case p.stirs(now, c.bytes(), c.trickleOver()):
		why = "it has traffic"
	case p.mark == 0:
	case c.wordIsOld(now):
		why = "its agents have no word of an arbiter"
	case now-p.since >= c.staggered(ParkMost):
		why = "it was parked for long"
	}
	if why != "" {
		p.calm = now
		c.come(why)
	}
	if c.mayPark(now) {
		if p.asked != 0 {
			p.vain++ // the arbiter does not let it
		}
		p.asked = now
		c.say(&protocol.Client{Park: &protocol.Park{}})
	}
}

// mayPark reports whether it is time to ask for it: not before the arbiter of this connection has
// said that slices are up, for it would not let it. Where headless time is as short as a few
// probes, these could not bring word in time.
func (c *Client) mayPark(now time.Duration) bool {
	p, w := &c.parking, &c.session.welcome
	long := w.Headless == 0 || c.headless() >= HeadlessLeast
	after := c.restBefore()
	return c.control != nil && w.Parks && long && c.control.up &&
		p.rested(now, c.staggered(after), c.bytes()) && (p.asked == 0 || now-p.asked >= after)
}

// restBefore is how long it is at rest before it asks: longer from the second time in a row
// on that this was in vain. What an arbiter refuses lasts, and whom agents bring back each time,
// by calls or by silence when they are asked, costs less while it stays.
func (c *Client) restBefore() time.Duration {
	after := c.parkAfter()
	return max(after, min(after<<min(max(c.parking.vain-1, 0), 8), ParkVainMost))
}

// rested reports whether it was calm for so long, and what began since the last look is no
// more than a trickle.
func (p *parking) rested(now, after time.Duration, moved uint64) bool {
	return now-p.calm >= after && !p.much(moved)
}

// parkAfter is less for who came and moves nothing: of a crowd that is back those that are let
// in would else take from the nodes, by their beats, what the others wait for. An agent that
// calls again and again makes no crowd: who is called stays for the whole time.
func (c *Client) parkAfter() time.Duration {
	switch {
	case c.config.ParkAfter != 0:
		return c.config.ParkAfter
	case !c.unused():
		return ParkAfter
	case c.session.resumed:
		return ParkAgain
	}
	return ParkUnused
}

// trickleOver is over how long what was moved is judged.
func (c *Client) trickleOver() time.Duration {
	return min(TrickleOver, max(c.parkAfter(), TrickleLeast))
}

// unused reports whether nothing was moved since it came, and no agent called it.
func (c *Client) unused() bool { return !c.parking.stays }

func (c *Client) headless() time.Duration {
	return time.Duration(c.session.welcome.Headless) * time.Second
}

// staggered is three quarters to all of a time, for each session another part of it: those
// who came together do not go together.
func (c *Client) staggered(d time.Duration) time.Duration {
	return d - d/4*time.Duration(c.session.welcome.Session[0])/255
}

// settled reports whether every slice is in use and heard. An epoch that goes, and has a newer
// one in its place, only waits for late packets.
func (c *Client) settled() bool {
	for key, s := range c.slices {
		if replaced := s.retireAt != 0 && c.superseded(key); !replaced && !s.proven() {
			return false
		}
	}
	return len(c.slices) > 0
}

// stirs reports whether more than a trickle was moved lately.
func (p *parking) stirs(now time.Duration, moved uint64, over time.Duration) bool {
	if now-p.looked < over {
		return false
	}
	much := p.much(moved)
	p.looked, p.moved, p.stays = now, moved, p.stays || much
	return much
}

// much reports whether more than a trickle was moved since it was looked at.
func (p *parking) much(moved uint64) bool { return moved > p.moved && moved-p.moved > Trickle }

// wordIsOld reports whether headless time is half over, or more.
func (c *Client) wordIsOld(now time.Duration) bool {
	return c.session.welcome.Headless > 0 && now-c.wordAt > c.staggered(c.headless()*2/3)
}

// park takes the arbiter's word that nothing is left to be said. Agents are asked at
// once, so that they know. Whose matters changed meanwhile says something, and stays.
func (c *Client) park(m *protocol.Parked, now time.Duration) {
	p := &c.parking
	if p.calm > p.asked || p.asked == 0 || m.Mark == 0 || !c.settled() {
		p.asked = 0
		c.say(&protocol.Client{Alive: &protocol.Alive{Bytes: c.bytes()}})
		return
	}
	c.config.Log.Debug("parked")
	p.mark, p.since, p.asked, p.stays = probe.Mark(m.Mark), now, 0, false
	p.rests.Store(true)
	c.control.Close()
	c.control = nil
	c.askAll(now)
}

// come has a parked client make its control connection. Agents hear by its next probes
// that it is on its way.
func (c *Client) come(why string) {
	p := &c.parking
	p.asked = 0
	if p.mark == 0 {
		return
	}
	now := c.config.Now()
	c.config.Log.Debug("not parked any more", "why", why)
	if p.vain++; now-p.since >= ParkBriefly {
		p.vain = 0
	}
	p.mark, p.calm, p.closing = 0, now, nil
	p.through.Store(int64(c.gateways.current))
	p.rests.Store(false)
	select {
	case c.redial <- again:
	default: // the dialer looks anyway
	}
	c.askAll(now)
}

// leaveClosing takes an agent's word that the gateway in use is to stop: a parked client does
// not hear it of the arbiter. It goes to the next that it knows. Before it knows one alone it
// comes, for the arbiter's list: there may be others now. Until it has that, those that it
// left are the last that it tries: an agent that lies leads it away from none for good.
func (c *Client) leaveClosing(payload []byte, now time.Duration) {
	p := &c.parking
	at, ok := probe.ParseLeaving(payload)
	if !ok || p.mark == 0 || !slices.Contains(at, c.gateways.at(c.gateways.current)) {
		return
	}
	all := c.gateways.list()
	p.closing = append(p.closing, slices.DeleteFunc(at, func(g netip.AddrPort) bool { return !slices.Contains(all, g) })...)
	left := slices.DeleteFunc(slices.Clone(all), func(g netip.AddrPort) bool { return slices.Contains(p.closing, g) })
	p.moves = now + MoveWithin
	c.adoptGateways(left, now)
	c.gateways.put(all)
	if len(left) < MinKnown {
		p.stays = true
		c.come("a gateway is to stop, and it knows few others")
	}
}

// left gives a parked client whose gateway is silent the time to be heard by the next one. Then it
// stays parked, for it has nothing to tell: where an arbiter dies that was a gateway, too, all who
// went by it would come while those come who have lost an agent. Who knew few others comes at once,
// for the arbiter's list, and so does who is not heard by the next one either: all nodes may have
// been restarted.
func (p *parking) left(gateways int, now time.Duration) {
	switch {
	case p.mark == 0:
	case p.moves == 0 && gateways > MinKnown:
		p.moves = now + LeftWithin
	default:
		p.moves = now
	}
}

// askOthers is for a parked client one of whose agents asks where it is. That slice came by
// another way than before, as behind a NAT that forgot: the ways of the others, whose turn
// is in up to ParkedEach, may be gone too, and what their agents say first with them.
func (c *Client) askOthers(now time.Duration) {
	if c.parking.mark == 0 {
		return
	}
	for _, s := range c.inOrder() {
		if s.held() && now-s.pulse.askedAt >= AskedLately {
			c.ask(s, now)
		}
	}
}

func (c *Client) askAll(now time.Duration) {
	for _, s := range c.inOrder() {
		if s.held() {
			c.ask(s, now)
		}
	}
}

// restless is how long a slice that carries nothing goes without a question. Of a parked
// client's slices that go one way those take turns: each question keeps the way open, any
// answer brings the arbiter's word, and one that does not come has all of them asked.
func (c *Client) restless(s *slice, judged []*slice) time.Duration {
	if c.parking.mark == 0 {
		return ProbeIdle
	}
	way, last, turns := c.wayOf(s), time.Duration(0), time.Duration(0)
	for _, other := range judged {
		if c.wayOf(other) != way {
			continue
		}
		if other.pulse.askedAt < s.pulse.askedAt {
			return ParkedEach // it is another one's turn
		}
		last = max(last, other.pulse.askedAt)
		turns++
	}
	return min(ParkedTurn, ParkedEach/turns) + last - s.pulse.askedAt
}

// keepOpen has the mappings of NATs stay that the others have who go the same way as a
// slice that was asked in its turn: each slice has a port of its own, and what an agent
// says first, a call or a packet from inside, comes by any. One that is asked again, as its
// answer is late, did so the first time.
func (c *Client) keepOpen(asked *slice, judged []*slice, now time.Duration) {
	if c.parking.mark == 0 || c.transport.stream != nil || asked.pulse.open.count > 1 {
		return
	}
	for _, s := range judged {
		if now-s.pulse.askedAt >= ParkedTurn && c.wayOf(s) == c.wayOf(asked) {
			_ = s.pair.Send([]byte{dataplane.KeepAlive}) // the next is sent soon
		}
	}
}

// question is a probe, as a client that is parked asks it or another.
func (c *Client) question(sequence uint32, now time.Duration) []byte {
	if c.parking.mark != 0 {
		return probe.AskParked(sequence, now, c.parking.mark)
	}
	return probe.Ask(sequence, now)
}

// takeWord is an agent's answer to that: one like any other, and the arbiter's word as
// old as the agent says, counted from the question on.
func (c *Client) takeWord(s *slice, payload []byte, now time.Duration) {
	r, age, ok := probe.ParseWord(payload)
	if !ok || r.Sequence < s.pulse.first {
		return
	}
	c.takeReply(s, r, now)
	if at := min(r.Sent, now) - age; age < probe.NoWord && at > c.wordAt {
		c.heard(at)
	}
}

// rest lets the dialer wait while the client is parked, and says whether it was.
func (c *Client) rest(ctx context.Context) (rested bool) {
	for c.parking.rests.Load() && ctx.Err() == nil {
		rested = true
		select {
		case <-ctx.Done():
		case <-c.redial:
		}
	}
	return rested
}

// comeToPart gives a parked client the connection over which it says goodbye.
func (c *Client) comeToPart() {
	if c.parking.mark == 0 {
		return
	}
	c.come("it ends")
	late := time.NewTimer(PartWithin)
	defer late.Stop()
	for c.control == nil {
		select {
		case e := <-c.events:
			c.turn(e)
			c.publishIfDirty()
		case <-c.failed:
			return
		case <-late.C:
			return
		}
	}
}
