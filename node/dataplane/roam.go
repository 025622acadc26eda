package dataplane

import (
	"errors"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// A client is where its newest packet came from, if it can be reached there. Who
// captured that packet can send it first, from elsewhere; and a client may send
// one in the name of somebody who asked for nothing. So replies go along another
// way, a gateway's or one from the old network too, only when the echo of a
// question that was sent along that way has come along it (RFC 9000, 8.2 and 9.3).
// A client's first way has to be proven like any other, and has AmplificationMost
// times what came from there meanwhile (8.1).

// follow lets an agent's pair follow the packet of n bytes that moved the window's edge.
func (w *inbound) follow(p *Pair, n int) {
	if !p.Agent {
		return
	}
	if old := p.way.Load(); old != nil && old.socket == w.socket && old.path == w.path {
		return
	}
	p.roam(way{w.socket, w.path}, n, w.now)
}

// roam goes along a way that was proven lately, and asks along any other.
func (p *Pair) roam(found way, n int, now int64) {
	old, t := p.way.Load(), p.trail()
	if old.along(found.path) { // by another socket
		p.way.Store(&found)
		return
	}
	t.mu.Lock()
	k := t.at(found, old, now)
	if k == nil {
		t.mu.Unlock()
		return
	}
	k.came(found.socket, n, now)
	if k.proven {
		p.take(t, k, old, now)
		t.mu.Unlock()
		return
	}
	if !old.sure() {
		p.guess(k, old)
	}
	question, unsure := k.question(now), &way{k.unsure, found.path}
	t.mu.Unlock()
	if question != nil {
		_ = p.sendAlong(unsure, question) // the next packet from there asks again
	}
}

// sure reports whether a way is one that was proven, or given.
func (w *way) sure() bool {
	if w == nil {
		return false
	}
	_, unsure := w.socket.(*ration)
	return !unsure
}

// along reports whether a way is sure and leads along a path: then its socket only
// is another one.
func (w *way) along(path link.Path) bool { return w.sure() && w.path == path }

// take makes a proven way the one in use; under the trail's lock.
func (p *Pair) take(t *trail, k *known, old *way, now int64) {
	if old.sure() {
		t.left(old.path, now)
	}
	p.way.Store(&way{k.way.socket, k.way.path})
}

// guess makes a way that is not proven the one in use, for want of a better one;
// under the trail's lock.
func (p *Pair) guess(k *known, old *way) {
	if old == nil || old.socket != link.Socket(k.unsure) || old.path != k.way.path {
		p.way.Store(&way{k.unsure, k.way.path})
	}
}

// Begin lets an agent's pair begin with the way along which its client's Accept of
// n bytes came. It reports whether the Accept may be answered there: not when it
// came along too many. Nothing is asked yet: a client that was heard by its echo
// would have its Accept answered no more, though the Confirm was lost.
func (p *Pair) Begin(socket link.Socket, path link.Path, n int, now int64) bool {
	old, t := p.way.Load(), p.trail()
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.at(way{socket, path}, old, now)
	if k != nil && !old.sure() {
		k.came(socket, n, now)
		p.guess(k, old)
	}
	return k != nil
}

// Leave lets an agent's pair send nothing more until its client is heard again:
// the way may be another client's by then.
func (p *Pair) Leave() { p.way.Store(nil) }

// trail is the pair's; the first use makes it, and that after Forget begins with what was
// forgotten.
func (p *Pair) trail() *trail {
	if t := p.trod.Load(); t != nil {
		return t
	}
	t := new(trail)
	t.ways = t.only[:0]
	if w := p.way.Load(); p.Agent && w.sure() {
		t.ways = append(t.ways, newKnown(*w, 0))
		t.ways[0].proven = true
	}
	p.trod.CompareAndSwap(nil, t)
	return p.trod.Load()
}

// Forget drops the trail of a peer that was seen along the way in use alone, for a while: that
// is almost every client at rest, and the way in use says it all.
func (p *Pair) Forget(now int64) {
	t := p.trod.Load()
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.says(p.way.Load(), now) {
		p.trod.CompareAndSwap(t, nil)
	}
}

// roaming handles a question and its echo, in a packet of n bytes; false when it is
// another message, or one that the owner is to hear of too: a client that is asked where it
// is comes by another way than it did, and may not know. An echo that is not the newest
// packet proves its way, but moves nothing: its sender may be elsewhere by now.
func (w *inbound) roaming(p *Pair, payload []byte, n int, newest bool) bool {
	if len(payload) == 0 {
		return false
	}
	switch payload[0] {
	case probe.KindSeen:
		if newest {
			n = 0 // follow counted it
		}
		if echo, ok := probe.EchoSeen(payload); ok {
			w.echo(p, echo, n)
		}
		return p.Agent
	case probe.KindSeenEcho:
		if token, ok := probe.ParseSeenEcho(payload); ok {
			w.echoed(p, token, newest)
		}
	default:
		return false
	}
	return true
}

// echo answers a question: an agent along the way it came, a client to show where
// the client is. Who waits for it asks again.
func (w *inbound) echo(p *Pair, echo []byte, n int) {
	if !p.Agent {
		_ = p.SendControl(echo)
		return
	}
	found, t := way{w.socket, w.path}, p.trail()
	if p.way.Load().along(w.path) {
		_ = p.sendAlong(&found, echo)
		return
	}
	t.mu.Lock()
	k := t.at(found, p.way.Load(), w.now)
	if k == nil {
		t.mu.Unlock()
		return
	}
	k.came(w.socket, n, w.now)
	unsure := &way{k.unsure, w.path}
	t.mu.Unlock()
	_ = p.sendAlong(unsure, echo)
}

// echoed takes the echo of a question that was asked along the very way that it
// came.
func (w *inbound) echoed(p *Pair, token probe.Token, newest bool) {
	path := w.path
	if !p.Agent {
		if w.socket != p.Socket {
			return
		}
		path = link.Path{Remote: path.Remote}
	}
	t := p.trail()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, k := range t.ways {
		if k.way.path != path || !k.waits(token, w.now) {
			continue
		}
		k.proven, k.seen = true, w.now
		old := p.way.Load()
		switch {
		case !p.Agent:
			p.tried.Store(&answer{path.Remote, max(w.now, 1)})
		case newest || old != nil && old.path == path:
			p.take(t, k, old, w.now)
		}
		return
	}
}

// Try asks the agent, out of the pair's own socket along a path that is not in
// use, to answer along it; Tried tells whether it has. The agent stays with the
// way in use: a question with a higher counter goes there first. That one is
// another question, and its answer counts for nothing.
func (p *Pair) Try(path link.Path, now int64) error {
	w, t := p.way.Load(), p.trail()
	if w == nil || w.socket == nil {
		return ErrNoPath
	}
	t.mu.Lock()
	k := t.at(way{p.Socket, link.Path{Remote: path.Remote}}, nil, now)
	if k == nil {
		t.mu.Unlock()
		return nil // asked again later
	}
	k.seen, k.asked = now, 0
	question := k.question(now)
	t.mu.Unlock()
	var other probe.Token
	counter, err := p.Out.Reserve(2, 2*len(question))
	if err != nil {
		return err
	}
	return errors.Join(p.seal(w, probe.Seen(other), counter+1), p.seal(&way{p.Socket, path}, question, counter))
}

// answer is an answer to Try: from where, and when.
type answer struct {
	from netip.AddrPort
	at   int64
}

// Tried is the clock's value when an answer to Try came along the path to an
// address; 0: none did, or that to another path came after it.
func (p *Pair) Tried(remote netip.AddrPort) int64 {
	if a := p.tried.Load(); a != nil && a.from == remote {
		return a.at
	}
	return 0
}

// FollowFrom begins a pair where another one stands: a rekey does not move the peer.
func (p *Pair) FollowFrom(older *Pair) {
	p.trod.Store(older.trail())
	p.way.Store(older.way.Load())
}
