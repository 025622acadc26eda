package sim

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Times of TCP.
const (
	resendFirst = 200 * time.Millisecond
	resendMost  = 30 * time.Second
	synAgain    = time.Second
)

// segment is bytes on their way, or an end.
type segment struct {
	bytes []byte
	end   error         // io.EOF, or ECONNRESET, after them
	sent  time.Duration // when
	at    time.Duration // when it arrives
}

// conn is one end of a TCP connection.
type conn struct {
	process       *process
	local, remote netip.AddrPort
	key           string
	peer          *conn
	// The driver's:
	out    []segment // not arrived, in their order
	flying bool
	resend time.Duration

	mu       sync.Mutex // protects what follows
	changed  *sync.Cond
	in       []byte
	failed   error // after in
	closed   bool
	shut     bool // for writing
	deadline [2]deadline
}

// deadline is that of reads, or of writes.
type deadline struct {
	timer *time.Timer
	over  bool
	count int
}

const (
	reads = iota
	writes
)

func newConn(p *process, local, remote netip.AddrPort, key string) *conn {
	c := &conn{process: p, local: local, remote: remote, key: key, resend: resendFirst}
	c.changed = sync.NewCond(&c.mu)
	p.conns[c] = true
	return c
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	for {
		c.process.gate()
		if n, err, done := c.tryRead(b); done {
			return n, err
		}
	}
}

// tryRead waits once.
func (c *conn) tryRead(b []byte) (n int, err error, done bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return 0, net.ErrClosed, true
	case !c.process.runs() && c.process.alive():
		return 0, nil, false
	case c.deadline[reads].over && len(c.in) == 0:
		return 0, os.ErrDeadlineExceeded, true
	case len(c.in) > 0:
		n = copy(b, c.in)
		c.in = c.in[n:]
		return n, nil, true
	case c.failed != nil:
		return 0, c.failed, true
	}
	c.changed.Wait()
	return 0, nil, false
}

// Write implements net.Conn. What is written waits in the kernel, however much it is.
func (c *conn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed, c.shut:
		return 0, net.ErrClosed
	case c.failed != nil && c.failed != io.EOF:
		return 0, c.failed
	case c.deadline[writes].over:
		return 0, os.ErrDeadlineExceeded
	}
	copied := append([]byte(nil), b...)
	c.process.leave(c.key, func() { c.send(segment{bytes: copied}) })
	return len(b), nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	for i := range c.deadline {
		if c.deadline[i].timer != nil {
			c.deadline[i].timer.Stop()
		}
	}
	c.changed.Broadcast()
	c.end()
	return nil
}

// CloseWrite ends one direction.
func (c *conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end()
	return nil
}

func (c *conn) end() {
	if c.shut {
		return
	}
	c.shut = true
	c.process.leave(c.key, func() { c.send(segment{end: io.EOF}) })
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error { return c.until(reads, t) }

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.until(writes, t) }

func (c *conn) until(which int, t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	d := &c.deadline[which]
	d.over = false
	d.count++
	count := d.count
	if d.timer != nil {
		d.timer.Stop()
	}
	switch left := time.Until(t); {
	case t.IsZero():
	case left <= 0:
		d.over = true
		c.changed.Broadcast()
	default:
		d.timer = time.AfterFunc(left, func() { c.expire(which, count) })
	}
	return nil
}

func (c *conn) expire(which, count int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deadline[which].count == count {
		c.deadline[which].over = true
		c.changed.Broadcast()
	}
}

// send is the driver's, as is what follows. All of one instant is one segment: goroutines
// that write at the same time do so in no order, and none must come of it.
func (c *conn) send(s segment) {
	if !c.process.alive() && s.end != errReset || c.peer == nil {
		return
	}
	w := c.process.world
	s.sent = w.now()
	if last := len(c.out) - 1; last >= 0 && c.out[last].sent == s.sent && c.out[last].end == nil {
		c.out[last].bytes, c.out[last].end = append(c.out[last].bytes, s.bytes...), s.end
		return
	}
	s.at = s.sent + w.net.takes(c.process.host, c.peer.process.host)
	if w.net.loses(c.process.host, c.peer.process.host) {
		s.at += resendFirst
	}
	c.out = append(c.out, s)
	c.fly()
}

// errReset is how the other end is told that there is nobody any more.
var errReset error = syscall.ECONNRESET

// fly has the oldest segment arrive.
func (c *conn) fly() {
	if c.flying || len(c.out) == 0 {
		return
	}
	c.flying = true
	w := c.process.world
	w.after(c.out[0].at-w.now(), c.arrive)
}

func (c *conn) arrive() {
	c.flying = false
	if len(c.out) == 0 { // given up meanwhile
		return
	}
	w := c.process.world
	from, to := c.process.host, c.peer.process.host
	if !w.net.open(from, to) {
		if from.off || c.process.host.process != c.process && c.out[0].end != errReset {
			c.out = nil // nobody is left who would send it again
			return
		}
		c.out[0].at = w.now() + c.resend
		c.resend = min(2*c.resend, resendMost)
		c.fly()
		return
	}
	c.resend = resendFirst
	s := c.out[0]
	c.out = c.out[1:]
	c.peer.take(s)
	c.fly()
}

// take is what the other end's kernel does with a segment.
func (c *conn) take(s segment) {
	c.mu.Lock()
	gone := c.closed || !c.process.alive()
	if !gone {
		if s.end != nil {
			c.failed = s.end
		}
		c.in = append(c.in, s.bytes...)
		c.changed.Broadcast()
	}
	c.mu.Unlock()
	if gone && s.end == nil {
		c.out = nil
		c.send(segment{end: errReset})
	}
}

// cut ends all connections of a process that is gone; with goodbye their other ends hear it.
func (p *process) cut(goodbye bool) {
	for _, c := range sorted(p.conns) {
		c.mu.Lock()
		c.closed = true
		c.changed.Broadcast()
		c.mu.Unlock()
		if goodbye {
			c.send(segment{end: errReset})
		} else {
			c.out = nil
		}
	}
}

// listener is a process's TCP port.
type listener struct {
	process *process
	local   netip.AddrPort
	mu      sync.Mutex // protects what follows
	ready   *sync.Cond
	waiting []*conn
	closed  bool
}

// listenTCP is the driver's.
func (p *process) listenTCP(local netip.AddrPort) *listener {
	l := &listener{process: p, local: local}
	l.ready = sync.NewCond(&l.mu)
	p.world.net.listeners[local] = l
	return l
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		l.process.gate()
		l.mu.Lock()
		switch {
		case l.closed:
			l.mu.Unlock()
			return nil, net.ErrClosed
		case len(l.waiting) > 0 && l.process.runs():
			c := l.waiting[0]
			l.waiting = l.waiting[1:]
			l.mu.Unlock()
			return c, nil
		case len(l.waiting) == 0:
			l.ready.Wait()
		}
		l.mu.Unlock()
	}
}

// Close implements net.Listener.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.ready.Broadcast()
	return nil
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.local) }

// dialed is how an attempt ended.
type dialed struct {
	conn *conn
	err  error
}

// dial opens a connection, as net.Dialer does.
func (p *process) dial(ctx context.Context, _, address string) (net.Conn, error) {
	p.gate()
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	ended := make(chan dialed, 1)
	p.world.leave(fmt.Sprintf("d%s%d%s", p.name, p.epoch, to), func() { p.connect(ctx, to, synAgain, ended) })
	select {
	case d := <-ended:
		p.gate()
		if d.err != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: d.err}
		}
		return d.conn, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// connect sends a SYN, again and again.
func (p *process) connect(ctx context.Context, to netip.AddrPort, again time.Duration, ended chan dialed) {
	w, far := p.world, p.world.net.hostOf(to.Addr())
	if ctx.Err() != nil || !p.alive() || far == nil {
		return
	}
	if !w.net.open(p.host, far) || w.net.loses(p.host, far) || w.net.loses(far, p.host) {
		w.after(again, func() { p.connect(ctx, to, 2*again, ended) })
		return
	}
	w.after(w.net.takes(p.host, far), func() { p.arriveSYN(ctx, far, to, again, ended) })
}

func (p *process) arriveSYN(ctx context.Context, far *host, to netip.AddrPort, again time.Duration, ended chan dialed) {
	w := p.world
	back := w.net.takes(far, p.host)
	l := w.net.listeners[to]
	switch {
	case !w.net.open(p.host, far) || !w.net.open(far, p.host):
		w.after(again, func() { p.connect(ctx, to, 2*again, ended) })
	case l == nil || !l.process.alive():
		w.after(back, func() { ended <- dialed{err: syscall.ECONNREFUSED} })
	case ctx.Err() != nil || !p.alive():
	default:
		near, other := w.net.pair(p, l, to)
		w.after(back, func() { w.net.established(ctx, near, ended) })
		l.mu.Lock()
		l.waiting = append(l.waiting, other)
		l.ready.Signal()
		l.mu.Unlock()
	}
}

// pair is both ends of a new connection.
func (n *network) pair(p *process, l *listener, to netip.AddrPort) (near, far *conn) {
	n.serial++
	p.ports++
	from := netip.AddrPortFrom(p.outer, 40000+p.ports)
	key := fmt.Sprintf("t%06d", n.serial)
	near, far = newConn(p, from, to, key+"a"), newConn(l.process, to, from, key+"b")
	near.peer, far.peer = far, near
	return near, far
}

// established is the answer at who dialled, if that still waits.
func (n *network) established(ctx context.Context, near *conn, ended chan dialed) {
	if ctx.Err() != nil || !near.process.alive() {
		near.process.world.leave(near.key, func() {})
		_ = near.Close()
		return
	}
	ended <- dialed{conn: near}
}
