package sim

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"
)

// host is a machine: it has addresses, a clock, and one process at a time.
type host struct {
	name    string
	number  int
	outer   netip.Addr
	inside  netip.Addr
	off     bool         // without power
	process *process     // the present one, or the last
	ahead   atomic.Int64 // of its wall clock
	ports   uint16       // given out so far
}

// process is one start of a daemon. A stopped one does nothing as soon as it asks for the
// time, or touches anything outside of itself; a dead one's words go nowhere.
type process struct {
	*host
	world *World
	epoch int
	conns map[*conn]bool // driver's

	mu      sync.Mutex // protects what follows
	dead    bool
	stopped bool
	waiting []chan struct{} // goroutines of a stopped process
	held    []sending       // by it
	ended   func()          // frees what it holds
}

func (h *host) start(w *World) *process {
	epoch := 1
	if h.process != nil {
		epoch = h.process.epoch + 1
	}
	h.process = &process{host: h, world: w, epoch: epoch, conns: make(map[*conn]bool)}
	return h.process
}

// gate keeps a goroutine of a stopped process.
func (p *process) gate() {
	p.mu.Lock()
	for p.stopped && !p.dead {
		wait := make(chan struct{})
		p.waiting = append(p.waiting, wait)
		p.mu.Unlock()
		<-wait
		p.mu.Lock()
	}
	p.mu.Unlock()
}

// leave gives something to the world, for a stopped process once it goes on: who says it
// may hold a lock, and a bubble in which somebody waits for a lock never rests.
func (p *process) leave(key string, do func()) {
	p.mu.Lock()
	if p.stopped && !p.dead {
		p.held = append(p.held, sending{key, do})
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.world.leave(key, do)
}

// alive reports whether what this process does counts.
func (p *process) alive() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.dead
}

func (p *process) runs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.dead && !p.stopped
}

// stop is SIGSTOP.
func (p *process) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
}

// goOn is SIGCONT: one goroutine after the other.
func (p *process) goOn() {
	p.mu.Lock()
	p.stopped = false
	held := p.held
	p.held = nil
	for _, s := range held {
		p.world.leave(s.key, s.do)
	}
	for len(p.waiting) > 0 {
		next := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.mu.Unlock()
		close(next)
		synctest.Wait()
		p.mu.Lock()
	}
	p.mu.Unlock()
}

// now is CLOCK_BOOTTIME.
func (p *process) now() time.Duration {
	p.gate()
	return time.Hour + p.world.now()
}

// wall is the wall clock, which may be wrong.
func (p *process) wall() time.Time {
	return time.Now().Add(time.Duration(p.ahead.Load()))
}

// source is randomness for one part of a process, decided by the seed: of two that drew from
// one at the same instant either could be first.
type source struct {
	mu sync.Mutex // protects r
	r  *rand.ChaCha8
}

func (p *process) newSource(part string) *source {
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], p.world.seed)
	binary.BigEndian.PutUint64(seed[8:], uint64(p.number))
	binary.BigEndian.PutUint32(seed[16:], uint32(p.epoch))
	copy(seed[20:], part)
	return &source{r: rand.NewChaCha8(seed)}
}

// Read never fails.
func (s *source) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.Read(b)
}

// kill is kill -9, or the power that goes: with goodbye the kernel tells the other ends.
func (p *process) kill(goodbye bool) {
	p.mu.Lock()
	was := p.dead
	p.dead = true
	p.mu.Unlock()
	if was {
		return
	}
	p.goOn() // to its end
	p.cut(goodbye)
	p.closePorts()
	if p.ended != nil {
		p.ended()
	}
}

// closePorts is what the kernel does for the process.
func (p *process) closePorts() {
	net := p.world.net
	for at, s := range net.sockets {
		if s.process == p {
			delete(net.sockets, at)
		}
	}
	for at, l := range net.listeners {
		if l.process == p {
			delete(net.listeners, at)
		}
	}
}
