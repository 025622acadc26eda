// Package dataplane is the packet engine of clients and agents: it moves
// packets between the TUN, the outer sockets and the inside sockets.
//
//	out: readTUN, route, slice, cut, seal, send           outbound.go
//	in:  receive, open, admit, coalesce, writeTUN         inbound.go
//	on:  receive, admit, seal, send; or admit, writeTUN   handon.go
//
// It owns its workers, their buffers and the counters. It does not own keys,
// paths, policy or time: the control loop publishes an immutable Table and
// decides. It decides nothing itself but the fate of one packet, and names it
// (drop.go).
package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// Errors of New and Attach.
var (
	ErrConfig = errors.New("dataplane: incomplete configuration")
	ErrClosed = errors.New("dataplane: engine closed")
	ErrFull   = errors.New("dataplane: too many sockets")
)

// Forwarder takes outer trains that are for another node. It must not keep b.
type Forwarder interface {
	Forward(b []byte, t link.Train, from link.Socket)
}

// Config is what an engine is made of. The callbacks run on the packet path:
// they must not block and must not keep what they are given.
type Config struct {
	Device tun.Device
	// Outer and Inside are served from Start on; further ones by Attach. The
	// engine closes them all.
	Outer, Inside []link.Socket
	// Clock is a monotonic clock in nanoseconds; a coarse one will do.
	Clock func() int64
	// Forwarder takes what other nodes are to open; nil drops it as foreign.
	Forwarder Forwarder
	// Marked takes accepts, confirms, probes and path tests.
	Marked func(from link.Socket, path link.Path, m Marker, datagram []byte)
	// Violation hears of packets that should not exist, at most once per
	// ViolationInterval for each worker and reason.
	// It is told how many there were since its last word, and where the newest came from.
	Violation func(reason Reason, count uint64, path link.Path)
	// Stalled hears that this process stood still, see Tick.
	Stalled func(gap time.Duration)
	// Fault hears of a worker that gave up.
	Fault func(error)
	// Busy hears when so many packets come that the workers are in system calls for a
	// good part of the time, and when that is over; false also at Close. Tick tells it.
	Busy func(bool)
	// Trace follows every packet through the automaton; nil but in tests.
	Trace func(id uint64, action Action)
	// USO says that the TUN takes UDP super-packets (TUN_F_USO4, USO6).
	USO bool
}

// Engine is the packet engine. Publish, Attach, Stats, Tick and Resume are
// safe for concurrent use.
type Engine struct {
	config Config
	queues []tun.Queue
	table  atomic.Pointer[Table]
	stall  stall
	busy   busy
	noisy  noisy
	group  sync.WaitGroup

	mu      sync.Mutex // protects everything below
	workers map[*ledger]link.Socket
	retired Stats // of workers that ended
	serial  int   // workers started so far
	next    int   // TUN queue for the next receiver
	started bool
	closed  bool
}

// New makes an engine that does nothing before Start.
func New(c Config) (*Engine, error) {
	if c.Device == nil || c.Clock == nil {
		return nil, fmt.Errorf("%w: a device and a clock are needed", ErrConfig)
	}
	e := &Engine{config: c, queues: c.Device.Queues(), workers: map[*ledger]link.Socket{}}
	if len(e.queues) == 0 {
		return nil, fmt.Errorf("%w: the device has no queue", ErrConfig)
	}
	e.stall.heard = c.Stalled
	return e, nil
}

// Publish makes t the table of every packet that is taken up from now on.
func (e *Engine) Publish(t *Table) { e.table.Store(t) }

// Heard is that of the table in use.
func (e *Engine) Heard(all []netip.Addr, most int) []netip.Addr {
	return e.table.Load().Heard(all, most)
}

// Inside is that of the table in use.
func (e *Engine) Inside(most int) []netip.Addr { return e.table.Load().Inside(most) }

// Start starts one worker for each queue and each configured socket.
func (e *Engine) Start() error {
	e.mu.Lock()
	if e.started || e.closed {
		e.mu.Unlock()
		return fmt.Errorf("%w: started twice or closed", ErrClosed)
	}
	e.started = true
	e.mu.Unlock()
	for i, q := range e.queues {
		if err := e.begin(nil, func(l *ledger) worker { return newOutbound(e, l, i, q) }); err != nil {
			return err
		}
	}
	for _, s := range e.config.Outer {
		if err := e.Attach(s); err != nil {
			return err
		}
	}
	for _, s := range e.config.Inside {
		if err := e.attach(s, newHandOn); err != nil {
			return err
		}
	}
	return nil
}

// Attach serves a further outer socket until it is closed, by its owner or by
// Close. A client has one for each slice.
func (e *Engine) Attach(s link.Socket) error { return e.attach(s, newInbound) }

type receiver func(*Engine, *ledger, link.Socket, tun.Queue) worker

func (e *Engine) attach(s link.Socket, serve receiver) error {
	return e.begin(s, func(l *ledger) worker { return serve(e, l, s, e.queue()) })
}

// queue gives receivers the TUN queues in turn; called under mu.
func (e *Engine) queue() tun.Queue {
	q := e.queues[e.next%len(e.queues)]
	e.next++
	return q
}

// worker handles one batch of packets from its source at a time.
type worker interface {
	step() error
}

// begin starts a worker of its own ledger.
func (e *Engine) begin(s link.Socket, build func(*ledger) worker) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.closed:
		return ErrClosed
	case len(e.workers) >= MaxWorkers:
		return ErrFull
	}
	e.serial++
	l := &ledger{trace: newTracer(e.serial, e.config.Trace)}
	w := build(l)
	e.workers[l] = s
	e.group.Add(1)
	go e.work(w, l)
	return nil
}

func (e *Engine) work(w worker, l *ledger) {
	defer e.group.Done()
	defer e.retire(l)
	for faults := 0; faults < MaxFaults; {
		err := w.step()
		switch {
		case err == nil:
			faults = 0
		case errors.Is(err, link.ErrClosed), errors.Is(err, tun.ErrClosed):
			return
		default:
			if faults++; faults == MaxFaults && e.config.Fault != nil {
				e.config.Fault(err)
			}
		}
	}
}

// retire keeps the counts of a worker that ended.
func (e *Engine) retire(l *ledger) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.retired.add(l.stats())
	if s := e.workers[l]; s != nil {
		e.retired.Lost += s.Lost()
	}
	delete(e.workers, l)
}

// Stats sums all workers, also those that ended.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.retired
	for l, socket := range e.workers {
		s.add(l.stats())
		if socket != nil {
			s.Lost += socket.Lost()
		}
	}
	return s
}

// Close closes the device and all sockets and waits for every worker.
func (e *Engine) Close() error {
	err := e.config.Device.Close()
	for _, s := range e.sockets() {
		err = errors.Join(err, s.Close())
	}
	e.group.Wait()
	e.closeBusy()
	return err
}

// sockets ends Attach and lists every socket to close.
func (e *Engine) sockets() []link.Socket {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	all := append(append([]link.Socket(nil), e.config.Outer...), e.config.Inside...)
	for _, s := range e.workers {
		if s != nil {
			all = append(all, s)
		}
	}
	return all
}
