// Package splice makes one connection of two: bytes pass both ways, the end of
// a direction as that, a failure as a reset. It owns the pace of its copying and
// the limits of silence, not where the connections lead (node, node/proxy,
// node/masquerade).
package splice

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Buffers are what is copied through.
var Buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// Both copies both ways until both directions have ended, one has failed, or
// nothing passed for long; then both connections are closed. The end of one
// direction is passed on as that, a failure as a reset: a download that broke
// off must not look like one that is complete.
func Both(a, b net.Conn) { within(a, b, IdleLimit, HalfIdleLimit, idleLook) }

func within(a, b net.Conn, idle, halfIdle, look time.Duration) {
	p := &pair{a: a, b: b, idle: idle, halfIdle: halfIdle}
	defer a.Close()
	defer b.Close()
	ended := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { p.pass(a, b) })
	both.Go(func() { p.pass(b, a) })
	go func() {
		both.Wait()
		close(ended)
	}()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for last, since := p.passed.Load(), time.Now(); ; {
		select {
		case <-ended:
			return
		case now := <-ticker.C:
			if n := p.passed.Load(); n != last {
				last, since = n, now
			} else if now.Sub(since) >= p.limit() {
				p.reset()
				<-ended
				return
			}
		}
	}
}

// pair is one pair of connections.
type pair struct {
	a, b           net.Conn
	idle, halfIdle time.Duration
	passed         atomic.Uint64 // bytes, both ways
	half           atomic.Bool   // one direction has ended
}

func (p *pair) limit() time.Duration {
	if p.half.Load() {
		return p.halfIdle
	}
	return p.idle
}

// pass copies one direction.
func (p *pair) pass(to, from net.Conn) {
	buffer := Buffers.Get().(*[]byte)
	defer Buffers.Put(buffer)
	for {
		n, err := from.Read(*buffer)
		if n > 0 {
			p.passed.Add(uint64(n))
			if _, err := to.Write((*buffer)[:n]); err != nil {
				p.reset()
				return
			}
		}
		switch {
		case err == nil:
		case err == io.EOF && CloseWrite(to) == nil:
			p.half.Store(true)
			return
		default:
			p.reset()
			return
		}
	}
}

// reset breaks both connections off.
func (p *pair) reset() {
	for _, c := range []net.Conn{p.a, p.b} {
		_ = SetLinger(c, 0) // whoever cannot is closed
		c.Close()
	}
}

// CloseWrite ends our direction of a connection.
func CloseWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

// SetLinger is that of net.TCPConn, where the connection has it.
func SetLinger(c net.Conn, seconds int) error {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		return l.SetLinger(seconds)
	}
	return nil
}
