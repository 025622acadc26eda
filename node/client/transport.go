package client

import (
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// UDP is tried first. Where it stays silent though something was asked, the
// same datagrams go framed over TLS to the gateway's TCP port, all slices on
// one stream. While they do, an agent is asked by UDP now and then to answer
// by UDP, which changes nothing at the agent. Its answer brings the slices back.

// transport is how datagrams reach the gateway in use; owned by the loop.
type transport struct {
	stream  Stream // nil: by UDP
	gateway netip.AddrPort
	parting []parting // streams that slices have left
	wanted  chan netip.AddrPort
	opening bool

	deafSince time.Duration // UDP is silent though asked; 0: it is not
	urgent    bool          // UDP was silent a moment ago: do not wait for it again
	openedAt  time.Duration // when the stream in use was
	openAfter time.Duration // no attempt before
	openWait  time.Duration // doubles with each attempt that brought nothing
	inVain    int           // streams that were left since something came by one
	askedAt   time.Duration // when UDP was last asked while a stream is in use
	askWait   time.Duration // doubles each time UDP did not last
	backAt    time.Duration // when UDP was last returned to
}

// parting is a stream that is closed when what is on its way has come.
type parting struct {
	stream Stream
	at     time.Duration
}

// aim sends a pair's packets the slice's way, by the transport in use.
func (c *Client) aim(s *slice, p *dataplane.Pair) {
	path := link.Path{Remote: c.wayOf(s)}
	if c.transport.stream != nil {
		p.SetWay(c.transport.stream, path)
		return
	}
	p.SetPath(path)
}

// superviseTransport notices that UDP is silent, and that it is not any more.
func (c *Client) superviseTransport(now time.Duration) {
	t := &c.transport
	for len(t.parting) > 0 && now >= t.parting[0].at {
		t.parting[0].stream.Close()
		t.parting = t.parting[1:]
	}
	switch {
	case t.stream == nil:
		c.listenToUDP(now)
	case ended(t.stream):
		c.streamEnded(now)
	case c.answeredByUDP():
		c.udpHeard(now)
	case now-t.askedAt >= t.askWait:
		c.askByUDP(now)
	}
}

// streamEnded tries UDP, and asks for another stream: at once, unless this one
// ended before anything came by it. A gateway that has too many does that.
func (c *Client) streamEnded(now time.Duration) {
	t := &c.transport
	c.config.Log.Warn("the stream to the gateway has ended", "gateway", t.gateway)
	c.leaveStream(now)
	c.moveTo(c.gateways.at(c.gateways.current), now)
}

// waitMore is the wait after one more attempt that brought nothing.
func (t *transport) waitMore() time.Duration {
	return min(max(2*t.openWait, OpenWaitMin), OpenWaitMax)
}

func ended(s Stream) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}

// listenToUDP asks for a stream when UDP has been silent for too long.
func (c *Client) listenToUDP(now time.Duration) {
	t := &c.transport
	waiting, heard := c.expecting()
	switch {
	case !waiting || c.stranded() || c.waits(now):
		t.deafSince = 0
		return
	case t.deafSince == 0:
		t.deafSince = now
	case heard > t.deafSince:
		t.deafSince, t.urgent = 0, false
		return
	}
	if t.opening || now < t.openAfter || now-t.deafSince < t.patience(c.control == nil, c.rested(now)) {
		return
	}
	gateway := c.gateways.at(c.gateways.current)
	if c.control != nil && slices.Contains(c.gateways.list(), c.control.gateway) && !c.gateways.shunned(c.control.gateway, now) {
		gateway = c.control.gateway // TCP leads there
	}
	select {
	case t.wanted <- gateway:
		t.opening = true
	default:
	}
}

// patience is how long UDP may be silent before a stream is asked for. away says that there
// is no connection to the arbiter, rested that the session has nothing to send.
func (t *transport) patience(away, rested bool) time.Duration {
	switch {
	case away && rested:
		return FallbackAway
	case t.urgent:
		return 0
	case rested:
		return FallbackIdle
	}
	return FallbackAfter
}

// rested reports whether the session was in use and has nothing to send.
func (c *Client) rested(now time.Duration) bool {
	return c.session != nil && c.session.ready && !c.sends(now)
}

// expecting reports whether any slice has asked something that was not
// answered, and when any was last heard.
func (c *Client) expecting() (waiting bool, heard time.Duration) {
	for _, s := range c.slices {
		if s.retireAt != 0 {
			continue
		}
		waiting = waiting || s.pulse.waiting != 0 || !s.confirmed && s.tries > 0
		heard = max(heard, s.pulse.heardAt)
	}
	return waiting, heard
}

type streamOpened struct {
	stream  Stream
	gateway netip.AddrPort
	err     error
}

// apply moves every slice to the stream if UDP is still silent.
func (e streamOpened) apply(c *Client) {
	t, now := &c.transport, c.config.Now()
	t.opening = false
	if e.err == nil && t.deafSince == 0 {
		e.stream.Close() // UDP answered meanwhile
		return
	}
	if e.err == nil {
		e.err = c.config.Engine.Attach(e.stream)
	}
	if e.err != nil {
		if e.stream != nil {
			e.stream.Close()
		}
		t.openWait = t.waitMore()
		t.openAfter = now + t.openWait
		c.config.Log.Debug("no stream in place of UDP", "gateway", e.gateway, "error", e.err)
		return
	}
	t.stream, t.gateway, t.openedAt = e.stream, e.gateway, now
	t.deafSince, t.urgent, t.askedAt = 0, false, now
	t.askWait = c.nextAskWait(now)
	c.gateways.use(e.gateway)
	c.forgetDirect()
	c.config.Log.Warn("UDP is silent; packets go over TLS", "gateway", e.gateway)
	c.moveTo(c.gateways.at(c.gateways.current), now)
}

// nextAskWait grows while UDP is heard and lost again.
func (c *Client) nextAskWait(now time.Duration) time.Duration {
	t := &c.transport
	if t.backAt == 0 || now-t.backAt > UDPLasting {
		return AskUDPMin
	}
	return min(2*t.askWait, AskUDPMax)
}

// askByUDP asks along the way that was silent, for all slices by one of them.
func (c *Client) askByUDP(now time.Duration) {
	c.transport.askedAt = now
	for _, key := range c.sortedKeys() {
		if s := c.slices[key]; s.usable() {
			_ = s.pair.Try(link.Path{Remote: c.transport.gateway}, int64(now)) // asked again later
			return
		}
	}
}

func (c *Client) answeredByUDP() bool {
	for _, s := range c.slices {
		if tried := time.Duration(s.pair.Tried(c.transport.gateway)); s.usable() && tried != 0 && tried >= c.transport.askedAt {
			return true
		}
	}
	return false
}

// udpHeard returns to UDP. The stream stays until what is on its way has come.
func (c *Client) udpHeard(now time.Duration) {
	t := &c.transport
	c.config.Log.Info("UDP answers again", "gateway", t.gateway)
	c.leaveStream(now)
	t.backAt, t.urgent, t.openWait, t.inVain = now, false, 0, 0
	c.moveTo(t.gateway, now)
}

// leaveStream sends nothing more on the stream. What takes its place, if UDP is silent, is
// opened at once if something came by this one. If nothing did, each gateway is tried once
// like that: where the agents are what is silent, as when all nodes were started anew, no
// stream helps, and each of thousands of clients would open one after the other.
func (c *Client) leaveStream(now time.Duration) {
	t := &c.transport
	if t.stream == nil {
		return
	}
	wait := time.Duration(0)
	if t.inVain++; c.streamHeard() {
		t.inVain, t.openWait = 0, 0
	} else if ended(t.stream) || t.inVain >= c.gateways.count() {
		t.openWait = t.waitMore()
		wait = t.openWait
	}
	t.parting = append(t.parting, parting{t.stream, now + RetireAfter})
	t.stream, t.deafSince, t.urgent, t.openAfter = nil, 0, true, now+wait
}

// streamHeard says that something came by the stream in use.
func (c *Client) streamHeard() bool {
	_, heard := c.expecting()
	return heard > c.transport.openedAt
}

// closeStreams ends them all, also those that nobody has looked at; whoever opens
// them has ended.
func (c *Client) closeStreams() {
	for len(c.events) > 0 {
		discard(<-c.events)
	}
	t := &c.transport
	if t.stream != nil {
		t.stream.Close()
	}
	for _, p := range t.parting {
		p.stream.Close()
	}
}
