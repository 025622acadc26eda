package link

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// rest is where the reader of a socket waits to which little comes: in Go's poller. To
// wait in a system call costs half of that, but keeps one of the runtime's processors for
// up to 10 ms, and as long as it does Go's watcher of threads looks each 70 us or so whether to
// take it away: most of what an idle process did. It is owned by the goroutine in Receive.
type rest struct {
	pace
	poll  int      // a set of the socket alone, and only while it rests: who is busy shall not wake the poller, too
	armed bool     // the socket is in it
	file  *os.File // of poll, in Go's poller
	raw   syscall.RawConn
	try   func(uintptr) bool // made once, for it is called often
	room  []byte             // of try, as is errno
	errno unix.Errno
	began time.Time
	waits int // in the poller, for tests
}

// newSet makes a set of sockets that Go's poller waits for.
func newSet() (poll int, file *os.File, raw syscall.RawConn, err error) {
	if poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return -1, nil, nil, err
	}
	_ = unix.SetNonblock(poll, true) // or Go's poller would not take it; it cannot fail
	file = os.NewFile(uintptr(poll), "set of sockets")
	if raw, err = file.SyscallConn(); err != nil {
		_ = file.Close()
	}
	return poll, file, raw, err
}

// newRest makes one for a socket that has a receiver.
func newRest(s *socket) (*rest, error) {
	r := &rest{began: time.Now()}
	var err error
	if r.poll, r.file, r.raw, err = newSet(); err != nil {
		return nil, fmt.Errorf("link: open what a socket rests in: %w", err)
	}
	r.try = func(uintptr) bool {
		r.errno = s.fetch(s.in, r.room, unix.MSG_DONTWAIT)
		return r.errno != unix.EAGAIN || s.closed.Load()
	}
	return r, nil
}

// await fetches what comes next, and waits for it.
func (r *rest) await(s *socket, b []byte) unix.Errno {
	if !r.busy(time.Since(r.began), quietAfter) && r.arm(s.fd) {
		r.waits++
		r.room = b
		err := r.raw.Read(r.try)
		r.room = nil
		if err == nil {
			return r.errno
		}
	}
	r.disarm(s.fd)
	return s.fetch(s.in, b, unix.MSG_WAITFORONE)
}

// arm puts the socket into the set; false: it cannot be.
func (r *rest) arm(fd int) bool {
	if !r.armed {
		r.armed = unix.EpollCtl(r.poll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN}) == nil
	}
	return r.armed
}

func (r *rest) disarm(fd int) {
	if r.armed {
		_ = unix.EpollCtl(r.poll, unix.EPOLL_CTL_DEL, fd, nil) // it is in the set
		r.armed = false
	}
}
