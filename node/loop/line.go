package loop

import (
	"net"
	"sync"
	"time"
)

// line is a connection whose reads fail when nothing has come for so long. Every byte
// counts, so a large message over a slow way is no silence.
type line struct {
	net.Conn
	mu       sync.Mutex    // protects what follows, and the deadlines
	patience time.Duration // with silence; 0: endless
	last     time.Time     // of all; zero: never
}

// Read returns what comes next.
func (l *line) Read(b []byte) (int, error) {
	if err := l.renew(); err != nil {
		return 0, err
	}
	return l.Conn.Read(b)
}

func (l *line) renew() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.SetReadDeadline(l.end())
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

// allow sets how long nothing may come.
func (l *line) allow(patience time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.patience = patience
	_ = l.SetReadDeadline(l.end()) // of the read that waits; a closed one ends anyway
}

// within sets when the connection ends whatever comes; 0: never.
func (l *line) within(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = time.Time{}
	if d > 0 {
		l.last = time.Now().Add(d)
	}
	_, _ = l.SetReadDeadline(l.end()), l.SetWriteDeadline(l.last) // likewise
}
