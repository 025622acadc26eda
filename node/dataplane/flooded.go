package dataplane

import (
	"sync"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/pages"
)

// attack counts what came to an SA without its keys, since the last look. What
// is not atomic belongs to who looks.
type attack struct {
	copies, forged    atomic.Uint64 // refused by the window, refused by the keys
	forgedEver        atomic.Uint64 // since the SA began
	until, boundUntil int64         // how long it is told, and told with a bound
	bounded           bool          // told with one last time
	noted             atomic.Bool   // among the engine's noisy ones
}

// quiet reports whether nothing came since the last look.
func (a *attack) quiet() bool { return a.copies.Load()+a.forged.Load() == 0 }

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

// noisy is the SAs to which something came without their keys since a look found them
// quiet: those alone are looked at. Workers add to it.
type noisy struct {
	mu    sync.Mutex // protects pairs
	pairs map[*Pair]bool
}

// attacked counts what came to an SA without its keys.
func (e *Engine) attacked(p *Pair, r Reason) Reason {
	p.attack.count(r)
	if !p.attack.noted.Load() && p.attack.noted.CompareAndSwap(false, true) {
		e.noisy.add(p)
	}
	return r
}

func (n *noisy) add(p *Pair) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pairs == nil {
		n.pairs = make(map[*Pair]bool)
	}
	n.pairs[p] = true
}

// look says of each of them whether it is told, and keeps those that are or that
// something came to just now.
func (n *noisy) look(now int64, each func(p *Pair, told, bounded bool)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.pairs {
		told, bounded := p.attack.look(now)
		each(p, told, bounded)
		if told || p.attack.bounded {
			continue
		}
		p.attack.noted.Store(false)
		if p.attack.quiet() || !p.attack.noted.CompareAndSwap(false, true) {
			delete(n.pairs, p)
		}
	}
}

// Flooded lists the SAs to which FloodTold packets or more came again, or came
// forged, between two looks within FloodHeld, each with what of its datagrams is
// worth taking up. What the window has passed would be dropped here (RFC 4303,
// 3.4.3, checks it first for the same reason). How far ahead the peer may be
// nobody knows, so what is beyond has to be taken up too, but a little of it is
// enough. One goroutine looks.
func (e *Engine) Flooded() []link.Window { return e.flooded(e.config.Clock()) }

func (e *Engine) flooded(now int64) (all []link.Window) {
	t := e.table.Load()
	e.noisy.look(now, func(p *Pair, told, bounded bool) {
		if !told || t == nil || t.In.Get(pages.Number(p.In.SPI())) != p {
			return
		}
		oldest := p.In.Oldest()
		w := link.Window{SPI: p.In.SPI(), From: uint32(oldest), To: link.Unbounded}
		if bounded {
			w.To = uint32(min(oldest+AheadMost, link.Unbounded))
		}
		all = append(all, w)
	})
	return all
}
