package descriptors

import (
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Reserve is what is set aside for what has to be opened in any case. A nil one has nothing,
// and is never short.
type Reserve struct {
	open func() (int, error) // one descriptor of no use

	mu    sync.Mutex // protects what follows
	most  int
	aside []int
	since error         // why one was not to be had since the last look; nil: all were
	why   error         // the same, of the looks from first to last
	first time.Duration // when it was found lacking
	last  time.Duration // when it was last
	short bool
}

// SetAside opens a reserve. It comes first of all that a process opens, and is closed with it.
func SetAside() *Reserve { return setAside(min(MaxAside, Limit()/asideShare), idle) }

func setAside(most int, open func() (int, error)) *Reserve {
	r := &Reserve{open: open, most: most}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = r.fill()
	return r
}

// idle opens one that takes a place in this process's table and in the host's.
func idle() (int, error) { return unix.Eventfd(0, unix.EFD_CLOEXEC) }

// fill sets aside what is missing; the caller holds mu.
func (r *Reserve) fill() error {
	for len(r.aside) < r.most {
		fd, err := r.open()
		if err != nil {
			return err
		}
		r.aside = append(r.aside, fd)
	}
	return nil
}

// lend gives one up, because of an error; false: there is none.
func (r *Reserve) lend(err error) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = err
	if len(r.aside) == 0 || !full(err) {
		return false
	}
	last := len(r.aside) - 1
	_ = syscall.Close(r.aside[last]) // of no use to anybody
	r.aside = r.aside[:last]
	return true
}

// whole sets aside again what can be had.
func (r *Reserve) whole() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fill() == nil
}

// Open does what opens something, and where it fails for want of descriptors once more with
// one that was set aside.
func (r *Reserve) Open(do func() error) error {
	err := do()
	if r == nil {
		return err
	}
	for lent := 0; Lacking(err) && lent < maxLent && r.lend(err); lent++ {
		err = do()
	}
	r.whole()
	return err
}

// Accept takes the next connection, and says whether it is one of the last: there are no
// descriptors left but those that were set aside.
func (r *Reserve) Accept(l net.Listener) (conn net.Conn, last bool, err error) {
	if r == nil {
		conn, err = l.Accept()
		return conn, false, err
	}
	err = r.Open(func() (err error) {
		conn, err = l.Accept()
		return err
	})
	return conn, err == nil && !r.whole(), err
}

// Listener accepts with what is set aside, and waits where even that is gone.
func (r *Reserve) Listener(l net.Listener) net.Listener { return listener{l, r} }

type listener struct {
	net.Listener
	reserve *Reserve
}

// Accept is that of net.Listener.
func (l listener) Accept() (net.Conn, error) {
	for {
		conn, _, err := l.reserve.Accept(l.Listener)
		if err == nil || !Lacking(err) {
			return conn, err
		}
		<-time.After(acceptAgain)
	}
}

// Look tries whether there is one to be had, and says why this process is short of them; nil:
// it is not.
func (r *Reserve) Look(now time.Duration) error {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	lacks := r.since
	r.since = nil
	if err := r.fill(); err != nil {
		lacks = err
	} else if fd, err := r.open(); err != nil {
		lacks = err
	} else {
		_ = syscall.Close(fd)
	}
	r.judge(now, lacks)
	if !r.short {
		return nil
	}
	return r.why
}

// judge takes what one look found; the caller holds mu.
func (r *Reserve) judge(now time.Duration, lacks error) {
	calm := ShortAfter
	if r.short {
		calm = ShortFor
	}
	switch {
	case lacks != nil && r.why == nil:
		r.why, r.first, r.last = lacks, now, now
	case lacks != nil:
		r.why, r.last = lacks, now
		r.short = now-r.first >= ShortAfter
	case now-r.last >= calm:
		r.why, r.short = nil, false
	}
}
