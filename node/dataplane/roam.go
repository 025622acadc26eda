package dataplane

import (
	"errors"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// A client is where its newest packet came from. But who only captured that
// packet can send it first, from elsewhere, and replies would follow. So an
// agent moves at once only to a gateway or within the old prefix, and asks at
// the old address whether the client is still there: its echo, the newest
// packet then, brings the replies back. To any other address it moves when the
// echo of a challenge sent there has come from there (RFC 9000, 9.3.3).

// follow lets an agent's pair follow the packet that moved the window's edge.
func (w *inbound) follow(p *Pair) {
	if !p.Agent {
		return
	}
	old := p.way.Load()
	if old != nil && old.socket == w.socket && old.path == w.path {
		return
	}
	found := &way{w.socket, w.path}
	switch {
	case old == nil:
		p.way.Store(found)
	case w.table.Nodes[w.path.Remote.Addr()] || samePrefix(old.path.Remote.Addr(), w.path.Remote.Addr()):
		p.way.Store(found)
		p.challenge(old, w.now)
	default:
		p.challenge(found, w.now)
	}
}

// challenge asks along a way whether the client is at its end.
func (p *Pair) challenge(at *way, now int64) {
	last := p.asked.Load()
	if last != 0 && now-last < int64(ChallengeInterval) || !p.asked.CompareAndSwap(last, max(now, 1)) {
		return
	}
	_ = p.sendAlong(at, probe.Seen(at.path.Remote)) // the next packet from there asks again
}

// roaming handles the two messages of a challenge; false when it is another.
func (w *inbound) roaming(p *Pair, payload []byte) bool {
	if len(payload) == 0 {
		return false
	}
	switch payload[0] {
	case probe.KindSeen:
		if echo, ok := probe.EchoSeen(payload); ok {
			_ = p.sendAlong(w.back(p), echo) // who waits for it asks again
		}
	case probe.KindSeenEcho:
		at, ok := probe.ParseSeenEcho(payload)
		switch {
		case !ok:
		case p.Agent && at == w.path.Remote:
			p.SetWay(w.socket, w.path)
		case !p.Agent && w.socket == p.Socket && at == w.path.Remote:
			p.tried.Store(&answer{at, max(w.now, 1)})
		}
	default:
		return false
	}
	return true
}

// back is the way of an echo: an agent's goes where the question came from, a
// client's shows where the client is.
func (w *inbound) back(p *Pair) *way {
	if p.Agent {
		return &way{w.socket, w.path}
	}
	return p.way.Load()
}

// Try asks the agent, out of the pair's own socket along a path that is not in
// use, to answer along it; Tried tells whether it has. The agent stays with the
// way in use: a question with a higher counter goes there first. Its answer to
// that one names the other way too, and counts for nothing.
func (p *Pair) Try(path link.Path) error {
	w, question := p.way.Load(), probe.Seen(path.Remote)
	if w == nil || w.socket == nil {
		return ErrNoPath
	}
	counter, err := p.Out.Reserve(2, 2*len(question))
	if err != nil {
		return err
	}
	return errors.Join(p.seal(w, question, counter+1), p.seal(&way{p.Socket, path}, question, counter))
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
func (p *Pair) FollowFrom(older *Pair) { p.way.Store(older.way.Load()) }

func samePrefix(a, b netip.Addr) bool {
	bits := prefixIPv6
	if a.Is4() {
		bits = prefixIPv4
	}
	if a.Is4() != b.Is4() {
		return false
	}
	prefix, err := a.WithZone("").Prefix(bits)
	return err == nil && prefix.Contains(b.WithZone(""))
}
