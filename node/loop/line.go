package loop

import (
	"net"
	"sync"
	"time"
)

// line is a connection with a heartbeat and a deadline: its reads fail when nothing has
// come for so long, and it beats when nothing was written for a while. Every byte counts,
// so a large message over a slow way is no silence.
type line struct {
	net.Conn
	pace Pace
	beat func() error // between two messages; set before beats

	mu       sync.Mutex    // protects what follows, and the deadlines
	patience time.Duration // with silence; 0: endless
	last     time.Time     // of all reads; zero: never
	begun    bool          // the next read's time runs already
	idle     *time.Timer   // nil: the other end is not known to beat
	over     bool
}

// Read returns what comes next.
func (l *line) Read(b []byte) (int, error) {
	l.renew()
	return l.Conn.Read(b)
}

// Write sends b, and the next beat is due later.
func (l *line) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle != nil && !l.over {
		l.idle.Reset(l.pace.Every)
	}
	return n, err
}

// beats begins: the other end is known to do so. It hears one at once, for that is how
// it may learn that this end does.
func (l *line) beats() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.idle != nil || l.over {
		return
	}
	l.patience = l.pace.Silence
	_ = l.SetReadDeadline(l.end()) // of the read that waits; a closed one ends anyway
	l.idle = time.AfterFunc(0, func() {
		if l.beat() != nil {
			l.hush() // what came before the end is still to be read, and then the end
		}
	})
}

// beating reports whether beats has begun.
func (l *line) beating() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idle != nil
}

// hush ends the beats: nothing may be written any more.
func (l *line) hush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	if l.idle != nil {
		l.idle.Stop()
	}
}

// Close ends the connection.
func (l *line) Close() error {
	l.hush()
	return l.Conn.Close()
}

// renew sets the deadline of a read that begins. One that has ended says so itself.
func (l *line) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.begun {
		_ = l.SetReadDeadline(l.end())
	}
	l.begun = false
}

// rest has the time of the next read run from now, though nobody reads yet.
func (l *line) rest() {
	l.renew()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun = true
}

// end is the deadline of a read that begins now; the caller holds mu.
func (l *line) end() (at time.Time) {
	if l.patience > 0 {
		at = time.Now().Add(l.patience)
	}
	if !l.last.IsZero() && (at.IsZero() || l.last.Before(at)) {
		at = l.last
	}
	return at
}

// until sets when reads end whatever comes; zero: never.
func (l *line) until(at time.Time) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = at
	return l.SetReadDeadline(l.end())
}
