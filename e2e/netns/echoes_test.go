//go:build e2e

package netns

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// echoEvery is how often echoes asks.
const echoEvery = 20 * time.Millisecond

// echoes is a flow of small packets from one host to another and back, which says
// what was lost of it and for how long nothing came.
type echoes struct {
	near net.Conn
	stop chan struct{}
	done sync.WaitGroup

	mu      sync.Mutex // protects the fields below
	sent    int
	got     int
	last    time.Time
	longest time.Duration
}

// echoes begins one.
func (m *mesh) echoes(from *lab.Space, to string) *echoes {
	m.Helper()
	e := &echoes{stop: make(chan struct{}), last: time.Now()}
	from.Sh("sysctl -qw net.ipv4.ping_group_range='0 0'")
	if err := from.Do(func() error { return pingSocket(&e.near, to) }); err != nil {
		m.Fatalf("echo socket: %v", err)
	}
	m.Cleanup(func() { e.end() })
	e.done.Go(e.ask)
	e.done.Go(e.hear)
	return e
}

func (e *echoes) ask() {
	tick := time.NewTicker(echoEvery)
	defer tick.Stop()
	for sequence := uint16(1); ; sequence++ {
		select {
		case <-e.stop:
			return
		case <-tick.C:
		}
		question := binary.BigEndian.AppendUint16([]byte{8, 0, 0, 0, 0, 0}, sequence)
		// One that could not be sent is lost like any other.
		_, _ = e.near.Write(question)
		e.mu.Lock()
		e.sent++
		e.mu.Unlock()
	}
}

func (e *echoes) hear() {
	b := make([]byte, 64)
	for {
		if _, err := e.near.Read(b); err != nil {
			select {
			case <-e.stop:
				return
			default: // an ICMP error; the next answer may come
				continue
			}
		}
		e.mu.Lock()
		e.got++
		e.longest = max(e.longest, time.Since(e.last))
		e.last = time.Now()
		e.mu.Unlock()
	}
}

// heard is what became of the flow.
type heard struct {
	sent, got int
	longest   time.Duration // without an answer
}

func (h heard) loss() float64 { return float64(h.sent-h.got) / float64(max(h.sent, 1)) }

func (h heard) String() string {
	return fmt.Sprintf("%d of %d echoes lost (%.1f %%), none for at most %v", h.sent-h.got, h.sent, 100*h.loss(), h.longest.Round(time.Millisecond))
}

// sofar is what became of it until now.
func (e *echoes) sofar() heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	return heard{e.sent, e.got, max(e.longest, time.Since(e.last))}
}

// forget begins to count anew.
func (e *echoes) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent, e.got, e.longest, e.last = 0, 0, 0, time.Now()
}

// end stops the flow and gives what became of it.
func (e *echoes) end() heard {
	now := e.sofar()
	select {
	case <-e.stop:
	default:
		close(e.stop)
		e.near.Close()
	}
	e.done.Wait()
	return now
}
