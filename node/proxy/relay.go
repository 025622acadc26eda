package proxy

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

var relayBuffers = sync.Pool{New: func() any { b := make([]byte, relayBuffer); return &b }}

// relay copies both ways until both directions have ended, one has failed, or
// nothing passed for long; then both connections are closed. The end of one
// direction is passed on as that, a failure as a reset: a download that broke
// off must not look like one that is complete.
func relay(a, b net.Conn) { relayWithin(a, b, IdleLimit, HalfIdleLimit, idleLook) }

func relayWithin(a, b net.Conn, idle, halfIdle, look time.Duration) {
	r := &relaying{a: a, b: b, idle: idle, halfIdle: halfIdle}
	defer a.Close()
	defer b.Close()
	ended := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { r.pass(a, b) })
	both.Go(func() { r.pass(b, a) })
	go func() {
		both.Wait()
		close(ended)
	}()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for last, since := r.passed.Load(), time.Now(); ; {
		select {
		case <-ended:
			return
		case now := <-ticker.C:
			if n := r.passed.Load(); n != last {
				last, since = n, now
			} else if now.Sub(since) >= r.limit() {
				r.reset()
				<-ended
				return
			}
		}
	}
}

// relaying is one pair of connections.
type relaying struct {
	a, b           net.Conn
	idle, halfIdle time.Duration
	passed         atomic.Uint64 // bytes, both ways
	half           atomic.Bool   // one direction has ended
}

func (r *relaying) limit() time.Duration {
	if r.half.Load() {
		return r.halfIdle
	}
	return r.idle
}

// pass copies one direction.
func (r *relaying) pass(to, from net.Conn) {
	buffer := relayBuffers.Get().(*[]byte)
	defer relayBuffers.Put(buffer)
	for {
		n, err := from.Read(*buffer)
		if n > 0 {
			r.passed.Add(uint64(n))
			if _, err := to.Write((*buffer)[:n]); err != nil {
				r.reset()
				return
			}
		}
		switch {
		case err == nil:
		case err == io.EOF && closeWrite(to) == nil:
			r.half.Store(true)
			return
		default:
			r.reset()
			return
		}
	}
}

// reset breaks both connections off.
func (r *relaying) reset() {
	for _, c := range []net.Conn{r.a, r.b} {
		_ = setLinger(c, 0) // whoever cannot is closed
		c.Close()
	}
}

// closeWrite ends our direction of a connection.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}

func setLinger(c net.Conn, seconds int) error {
	if l, ok := c.(interface{ SetLinger(int) error }); ok {
		return l.SetLinger(seconds)
	}
	return nil
}
