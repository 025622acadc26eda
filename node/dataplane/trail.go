package dataplane

import (
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// trail is the ways along which a peer was seen, or asked, lately, and what each of
// them has proven. The pairs of one slice share it. It is used only when a packet
// comes along another way than the one in use, and while that one is not proven.
type trail struct {
	mu     sync.Mutex // protects what follows
	ways   []*known   // at most MaxWays
	only   [1]*known  // room for the one that most peers have
	fresh  float64    // new ways that may be remembered now
	filled int64      // clock
}

// known is one way.
type known struct {
	way    way         // its socket is the bare one
	unsure *ration     // sends along it within what it may
	token  probe.Token // of the question that is out; zero: none
	made   int64       // clock, of the token
	asked  int64       // clock, of the last question
	proven bool        // an echo came along it
	seen   int64       // clock, of the last packet along it, or of its last use

	left  atomic.Int64 // bytes of its ration
	first ration       // unsure, until it comes by another socket
}

// newKnown is a way that was found now.
func newKnown(found way, now int64) *known {
	k := &known{way: found, seen: now}
	k.first = ration{found.socket, &k.left}
	k.unsure = &k.first
	return k
}

// ration is a socket for a way that has not been proven: no more leaves by it than
// AmplificationMost times what came along the way.
type ration struct {
	link.Socket
	left *atomic.Int64 // bytes
}

// errUnproven is returned where a ration is used up.
var errUnproven = errors.New("dataplane: the peer has not shown that it is there")

// Send sends a train if it is within the ration.
func (r *ration) Send(b []byte, segment int, path link.Path) error {
	if n := int64(len(b)); r.left.Add(-n) < 0 {
		r.left.Add(n)
		return errUnproven
	}
	return r.Socket.Send(b, segment, path)
}

// at finds a way, or remembers it in place of the one that was seen the longest ago,
// though never of the one in use. New ways are few: a gateway has a row for each,
// for as long as it is answered. nil: there were too many of them.
func (t *trail) at(found way, inUse *way, now int64) *known {
	oldest := -1
	for i, k := range t.ways {
		switch {
		case k.way.path == found.path:
			return k
		case inUse != nil && k.way.path == inUse.path:
		case oldest < 0 || k.seen < t.ways[oldest].seen:
			oldest = i
		}
	}
	if !t.spend(now) {
		return nil
	}
	k := newKnown(found, now)
	if len(t.ways) < MaxWays {
		t.ways = append(t.ways, k)
	} else {
		t.ways[oldest] = k
	}
	return k
}

// spend takes one of the new ways that are left.
func (t *trail) spend(now int64) bool {
	if t.filled == 0 {
		t.fresh, t.filled = MaxWays, max(now, 1)
	}
	t.fresh = min(t.fresh+float64(now-t.filled)/float64(WayEvery), MaxWays)
	t.filled = max(now, 1)
	if t.fresh < 1 {
		return false
	}
	t.fresh--
	return true
}

// says reports whether there is nothing in the trail but one way, the one in use, which is sure,
// and as many new ways may be remembered as in a new trail.
func (t *trail) says(inUse *way, now int64) bool {
	return len(t.ways) == 1 && inUse.along(t.ways[0].way.path) && now-t.filled > int64(MaxWays*WayEvery)
}

// left notes when a way was in use for the last time.
func (t *trail) left(path link.Path, now int64) {
	for _, k := range t.ways {
		if k.way.path == path {
			k.seen = now
		}
	}
}

// came notes n bytes that came along a way. The socket may be another one: those
// who have not proven themselves are received apart.
func (k *known) came(by link.Socket, n int, now int64) {
	if k.way.socket != by {
		k.way.socket, k.unsure = by, &ration{by, &k.left}
	}
	if now-k.seen > int64(ProvenFor) {
		k.proven = false
	}
	k.seen = now
	k.left.Add(int64(AmplificationMost * n))
}

// question is what is to be asked along the way now; nil when it was asked a
// moment ago. The token stays for a while: an answer takes longer than the next
// question.
func (k *known) question(now int64) []byte {
	if k.asked != 0 && now-k.asked < int64(ChallengeInterval) {
		return nil
	}
	k.asked = max(now, 1)
	if k.token == (probe.Token{}) || now-k.made > int64(TokenLife) {
		_, _ = rand.Read(k.token[:]) // never fails
		k.made = now
	}
	return probe.Seen(k.token)
}

// waits reports whether a token is that of the question which is out.
func (k *known) waits(token probe.Token, now int64) bool {
	return k.token != (probe.Token{}) && k.token == token && now-k.made <= 2*int64(TokenLife)
}
