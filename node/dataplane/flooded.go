package dataplane

import (
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// attack counts what came to an SA without its keys, since the last look. What
// is not atomic belongs to who looks.
type attack struct {
	copies, forged    atomic.Uint64 // refused by the window, refused by the keys
	forgedEver        atomic.Uint64 // since the SA began
	until, boundUntil int64         // how long it is told, and told with a bound
	bounded           bool          // told with one last time
}

func (a *attack) count(r Reason) Reason {
	switch r {
	case DropReplay:
		a.copies.Add(1)
	case DropAuth:
		a.forged.Add(1)
		a.forgedEver.Add(1)
	}
	return r
}

// Forged is how many packets were refused by the pair's keys so far.
func (p *Pair) Forged() uint64 { return p.attack.forgedEver.Load() }

// look says whether an SA is told, and whether with a bound.
func (a *attack) look(now int64) (told, bounded bool) {
	if a.forged.Swap(0) >= FloodTold {
		a.until, a.boundUntil = now+int64(FloodHeld), now+int64(FloodHeld)
	}
	if a.copies.Swap(0) >= FloodTold {
		a.until = now + int64(FloodHeld)
	}
	bounded = now < a.boundUntil
	told = now < a.until || a.bounded // without its bound, once
	a.bounded = bounded
	return told, bounded
}

// Flooded lists the SAs to which FloodTold packets or more came again, or came
// forged, between two looks within FloodHeld, each with what of its datagrams is
// worth taking up. What the window has passed would be dropped here (RFC 4303,
// 3.4.3, checks it first for the same reason). How far ahead the peer may be
// nobody knows, so what is beyond has to be taken up too, but a little of it is
// enough. One goroutine looks.
func (t *Table) Flooded(now int64) (all []link.Window) {
	if t == nil {
		return nil
	}
	for k, p := range t.In.All() {
		told, bounded := p.attack.look(now)
		if !told || p.In == nil {
			continue
		}
		oldest := p.In.Oldest()
		w := link.Window{SPI: uint32(k.Low), From: uint32(oldest), To: link.Unbounded}
		if bounded {
			w.To = uint32(min(oldest+AheadMost, link.Unbounded))
		}
		all = append(all, w)
	}
	return all
}
