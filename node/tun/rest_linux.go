package tun

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// rest is where the reader of a queue waits to which little comes: in Go's poller, in which it
// keeps no seat of Go's scheduler. It is owned by the goroutine in Read, but for calls.
type rest struct {
	calls atomic.Bool // wait in system calls: see WaitInCalls

	set   int      // of the wake and, while the reader rests, of the queue: who is busy shall not wake the poller, too
	armed bool     // the queue is in it
	file  *os.File // of set, in Go's poller
	raw   syscall.RawConn
}

// newRest makes one that ends when wake is readable.
func newRest(wake int) (*rest, error) {
	set, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("tun: make what a queue rests in: %w", err)
	}
	_ = unix.SetNonblock(set, true) // or Go's poller would not take it; it cannot fail
	r := &rest{set: set, file: os.NewFile(uintptr(set), "queue at rest")}
	if r.raw, err = r.file.SyscallConn(); err == nil {
		err = unix.EpollCtl(set, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN})
	}
	if err != nil {
		_ = r.file.Close()
		return nil, fmt.Errorf("tun: make what a queue rests in: %w", err)
	}
	return r, nil
}

// await waits in the poller until the queue or the wake is readable; false: it cannot, or is
// not to.
func (r *rest) await(queue int) bool {
	if r.calls.Load() {
		r.disarm(queue)
		return false
	}
	if !r.armed {
		r.armed = unix.EpollCtl(r.set, unix.EPOLL_CTL_ADD, queue, &unix.EpollEvent{Events: unix.EPOLLIN}) == nil
	}
	return r.armed && r.raw.Read(r.ready) == nil
}

// ready reports whether anything in the set is readable.
func (r *rest) ready(uintptr) bool {
	var one [1]unix.EpollEvent
	n, err := unix.EpollWait(r.set, one[:], 0)
	return n > 0 || err != nil && err != unix.EINTR
}

func (r *rest) disarm(queue int) {
	if r.armed {
		_ = unix.EpollCtl(r.set, unix.EPOLL_CTL_DEL, queue, nil) // it is in the set
		r.armed = false
	}
}

func (r *rest) close() error { return r.file.Close() }

// WaitInCalls has Read wait in system calls, which costs half of a wait in Go's poller and keeps
// a seat of Go's scheduler meanwhile, or no more. At first it does not.
func (q *queue) WaitInCalls(calls bool) { q.rest.calls.Store(calls) }
