package client

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// gatewayList is the gateways the client knows. The loop changes it, the
// dialer reads it.
type gatewayList struct {
	mu      sync.Mutex // protects all
	all     []netip.AddrPort
	current int           // of the data path; owned by the loop
	askedAt time.Duration // by direct slices, whether it lives; the loop's too
	stops   map[netip.AddrPort]*stops
	inVain  int       // gateways left since one was heard
	cutOff  int       // gateways left since one was heard that reaches other nodes
	unheard int       // gateways left since an answer came by one
	open    questions // through the present one, whoever was asked

	blamed   netip.AddrPort // left while the arbiter's connection goes by it, and by none was anybody heard since
	blamedAt time.Duration
}

func (g *gatewayList) at(i int) netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all[i%len(g.all)]
}

func (g *gatewayList) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.all)
}

func (g *gatewayList) list() []netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.all)
}

// use makes a gateway of the list the one of the data path.
func (g *gatewayList) use(gateway netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.current = max(0, slices.Index(g.all, gateway))
}

// ways are a gateway and the next one of the other family, if there is one: two
// at most to be tried at a time.
func (g *gatewayList) ways(gateway netip.AddrPort) []netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	from := max(0, slices.Index(g.all, gateway))
	for i := range g.all {
		if other := g.all[(from+i)%len(g.all)]; !sameFamily(other, gateway) {
			return []netip.AddrPort{gateway, other}
		}
	}
	return []netip.AddrPort{gateway}
}

// further adds the gateways that come next to some ways: FirstWays in all.
func (g *gatewayList) further(ways []netip.AddrPort) []netip.AddrPort {
	g.mu.Lock()
	defer g.mu.Unlock()
	from := max(0, slices.Index(g.all, ways[0]))
	for i := range g.all {
		if next := g.all[(from+i)%len(g.all)]; len(ways) < FirstWays && !slices.Contains(ways, next) {
			ways = append(ways, next)
		}
	}
	return ways
}

func sameFamily(a, b netip.AddrPort) bool { return a.Addr().BitLen() == b.Addr().BitLen() }

// replace takes a pushed list and keeps using the present gateway if it is in it.
// After that and one more of its family the families take turns: the other one
// is tried soon, however many gateways there are.
func (g *gatewayList) replace(all []netip.AddrPort, present netip.AddrPort) {
	if len(all) == 0 {
		return
	}
	all = all[:min(len(all), MaxGateways)]
	from := max(0, slices.Index(all, present))
	var like, other []netip.AddrPort
	for i := range all {
		if gateway := all[(from+i)%len(all)]; sameFamily(gateway, present) {
			like = append(like, gateway)
		} else {
			other = append(other, gateway)
		}
	}
	ordered := slices.Clone(like[:min(1, len(like))])
	for like = like[len(ordered):]; len(like)+len(other) > 0; {
		for _, of := range []*[]netip.AddrPort{&like, &other} {
			if len(*of) > 0 {
				ordered, *of = append(ordered, (*of)[0]), (*of)[1:]
			}
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all, g.current = ordered, 0
}

// put adds those at the end that are not in the list.
func (g *gatewayList) put(more []netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = slices.Clone(g.all) // others may read it
	for _, gateway := range more {
		if !slices.Contains(g.all, gateway) {
			g.all = append(g.all, gateway)
		}
	}
}

type welcomed struct {
	s       *controlState
	welcome protocol.Welcome
}

// apply starts or resumes the session.
func (e welcomed) apply(c *Client) {
	c.control = e.s
	c.appointed.Store(nil) // its turn is now
	now := c.config.Now()
	c.parking.calm, c.parking.asked = now, 0
	e.s.since = now
	c.heard(now)
	first := c.session == nil
	if first {
		c.session = &session{}
		c.config.Log.Info("session opened", "leases", e.welcome.Leases, "slices", len(e.welcome.Slices), "through", e.s.gateway)
	} else {
		c.config.Log.Info("session resumed", "through", e.s.gateway, "new_slices", len(e.welcome.Slices))
	}
	c.session.welcome, c.session.resumed = e.welcome, !first
	if err := c.config.Host.Up(e.welcome.Leases, e.welcome.Update); err != nil {
		c.fail(err)
		return
	}
	if first {
		c.gateways.replace(e.welcome.Update.Gateways, e.s.gateway)
		c.notice()
	} else {
		c.adoptGateways(e.welcome.Update.Gateways, now)
	}
	for i := range e.welcome.Slices {
		c.takeOffer(&e.welcome.Slices[i])
	}
	c.resayUp()
	if c.outdated && len(e.welcome.Slices) == 0 {
		c.hurry(again) // the next resumption says that we hold nothing
	}
	c.outdated = false
}

// heard notes a word of the arbiter.
func (c *Client) heard(now time.Duration) { c.wordAt, c.stood = now, false }

// resayUp repeats what a lost connection may have swallowed. Of a slice that was granted anew the
// arbiter knows no older epoch.
func (c *Client) resayUp() {
	var all []*protocol.Client
	for _, s := range c.inOrder() {
		ref := s.key.ref()
		switch {
		case c.grantedAnew(s.key):
		case s.usable():
			s.untold = false
			all = append(all, &protocol.Client{Up: &ref})
		case s.condemned && s.retireAt == 0:
			ref.Reason = "silent"
			all = append(all, &protocol.Client{Silent: &ref})
		}
	}
	c.say(all...)
}

// tellUps tells the arbiter which slices were keyed. Who came back and has nothing to send lets the
// first of them wait for the others whose Confirm is on its way, until the next tick: what is said
// together is relayed once, and the agents say it too.
func (c *Client) tellUps(now time.Duration, ticked bool) {
	var all []*protocol.Client
	keying := false
	for _, s := range c.inOrder() {
		keying = keying || !s.confirmed && s.retireAt == 0
		if s.untold && s.retireAt == 0 {
			ref := s.key.ref()
			all = append(all, &protocol.Client{Up: &ref})
		}
	}
	if keying && !ticked && c.rested(now) {
		return
	}
	for _, s := range c.slices {
		s.untold = false
	}
	c.say(all...)
}

type controlLost struct{ s *controlState }

func (e controlLost) apply(c *Client) {
	if c.control == e.s {
		c.control = nil
	}
}

// controlBeat is a sign of life of the arbiter, which closes its connections when its
// term is over.
type controlBeat struct{ s *controlState }

func (e controlBeat) apply(c *Client) {
	if c.control == e.s {
		c.heard(c.config.Now())
	}
}

type controlReceived struct {
	s *controlState
	m *protocol.Client
}

// apply obeys a message of the present connection.
func (e controlReceived) apply(c *Client) {
	if c.control != e.s {
		return
	}
	now := c.config.Now()
	c.heard(now)
	switch m := e.m; {
	case m.Offer != nil:
		c.takeOffer(m.Offer)
	case m.Drop != nil:
		c.retire(sliceKey{m.Drop.Number, m.Drop.Epoch}, now)
	case m.Weights != nil:
		c.weigh(m.Weights.Slices)
	case m.Update != nil:
		c.adoptGateways(m.Update.Gateways, now)
		if err := c.config.Host.Up(c.session.welcome.Leases, *m.Update); err != nil {
			c.config.Log.Error("pushed routes not set", "error", err)
		}
	case m.Up != nil:
		c.confirmedUp(now)
	case m.Parked != nil:
		c.park(m.Parked, now)
	case m.Bye != nil:
		c.config.Log.Info("the mesh ended the session", "reason", m.Bye.Reason)
		c.fail(over{m.Bye.Reason})
	}
}

// confirmedUp is the arbiter's word that replies find their way back. Until then something was
// under way.
func (c *Client) confirmedUp(now time.Duration) {
	c.control.up, c.parking.calm = true, now
	if !c.session.ready {
		c.session.ready = true
		c.config.Log.Info("connected", "leases", c.session.welcome.Leases, "slices", len(c.slices),
			"gateway", c.gateways.at(c.gateways.current))
		if c.config.Ready != nil {
			c.config.Ready()
		}
	}
}

// superviseControl says what changed, and stops the session when no arbiter was
// heard for too long.
func (c *Client) superviseControl(now time.Duration) {
	if c.control != nil && now-c.aliveAt >= AliveEvery {
		c.aliveAt = now
		c.sayAlive(now)
	}
	c.onLast.Store(c.control == nil && c.oneLeft())
	if c.session != nil && c.session.welcome.Headless > 0 &&
		now-c.wordAt > time.Duration(c.session.welcome.Headless)*time.Second {
		c.fail(ErrHeadless)
	}
}

// oneLeft reports whether all hangs on one slice: another is condemned, and the arbiter has
// offered nothing in its place.
func (c *Client) oneLeft() bool {
	usable, condemned := 0, false
	for _, s := range c.slices {
		switch {
		case s.retireAt != 0:
		case !s.confirmed:
			return false
		case s.condemned:
			condemned = true
		default:
			usable++
		}
	}
	return condemned && usable <= 1
}

// sayAlive tells the arbiter what was moved and measured. One that hears beats is not
// told again what it knows: most clients rest most of the time.
func (c *Client) sayAlive(now time.Duration) {
	alive := protocol.Alive{Bytes: c.bytes()}
	alive.Flow, alive.Paths = c.measures(now)
	if c.control.Beating() && alive.Equal(c.control.alive) {
		return
	}
	c.control.alive = alive
	c.say(&protocol.Client{Alive: &alive})
}

// hurry ends the present control connection and redials, at once if the last one lasted.
// Whose next attempt would wait for longer than a connection may be silent keeps the one
// that it has until then: slices that are not heard may have too busy agents.
func (c *Client) hurry(why haste) {
	c.come("its connection is to be another")
	lasts := c.control == nil || c.config.Now()-c.control.since >= Lasting
	if why == elsewhere && !lasts && time.Duration(c.nextWait.Load()) > loop.ClientSilence {
		return
	}
	select {
	case c.redial <- why:
	default:
	}
	if c.control != nil {
		c.control.Close()
		c.control = nil
	}
}

// bytes is what the session moved so far, with slices and keys that there are no more.
func (c *Client) bytes() uint64 {
	total := c.ended
	for _, s := range c.slices {
		for _, p := range [...]*dataplane.Pair{s.pair, s.older, s.next} {
			total += movedBy(p)
		}
	}
	return total
}

// movedBy is what went under some keys, both ways; nil: there are none.
func movedBy(p *dataplane.Pair) uint64 {
	if p == nil {
		return 0
	}
	n := p.Counters()
	return n.BytesIn + n.BytesOut
}

// sayBye ends the session at the arbiter on a clean stop, and waits for its
// answer: closed at once, the connection may take the word along.
func (c *Client) sayBye(err error) {
	if err != nil || c.control == nil {
		return
	}
	if c.control.leave(protocol.Bye{Reason: "client disconnected", Bytes: c.bytes()}) != nil {
		return
	}
	late := time.NewTimer(ByeWithin)
	defer late.Stop()
	for {
		select {
		case e := <-c.events:
			discard(e)
			if c.parted(e) {
				return
			}
		case <-late.C:
			return
		}
	}
}

// parted reports whether the arbiter ended the session, or the connection did.
func (c *Client) parted(e event) bool {
	switch e := e.(type) {
	case controlReceived:
		return e.s == c.control && e.m.Bye != nil
	case controlLost:
		return e.s == c.control
	}
	return false
}
