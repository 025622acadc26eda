package tun

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// device is a TUN interface. Its descriptors do not block: a reader waits in
// poll(2) for its queue and the eventfd, since closing or shutting down a TUN
// descriptor wakes no one.
type device struct {
	name   string
	wake   int // eventfd, readable from Close on
	queues []*queue
	closed atomic.Bool
}

type queue struct {
	fd, wake int
	// using is held for reading during every system call on fd and for
	// writing while fd is closed, so that no call meets a recycled number.
	using  sync.RWMutex
	closed atomic.Bool
}

var (
	_ Device = (*device)(nil)
	_ Queue  = (*queue)(nil)
)

func (d *device) Name() string { return d.name }

func (d *device) Queues() []Queue {
	queues := make([]Queue, len(d.queues))
	for i, q := range d.queues {
		queues[i] = q
	}
	return queues
}

// Close wakes all readers, waits for them to leave and removes the interface.
func (d *device) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	for _, q := range d.queues {
		q.closed.Store(true)
	}
	var errs []error
	if _, err := unix.Write(d.wake, []byte{7: 1}); err != nil {
		errs = append(errs, fmt.Errorf("tun: wake the readers: %w", err))
	}
	for _, q := range d.queues {
		q.using.Lock()
		errs = append(errs, unix.Close(q.fd))
		q.using.Unlock()
	}
	return errors.Join(append(errs, unix.Close(d.wake))...)
}

// Read implements Queue. Under load a packet waits already, so read comes
// first and poll only when there is none.
func (q *queue) Read(b []byte) (int, error) { return q.read(b, true) }

// TryRead implements Queue.
func (q *queue) TryRead(b []byte) (int, error) { return q.read(b, false) }

func (q *queue) read(b []byte, wait bool) (int, error) {
	q.using.RLock()
	defer q.using.RUnlock()
	for !q.closed.Load() {
		n, _, errno := unix.Syscall(unix.SYS_READ, uintptr(q.fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch {
		case errno == 0 && int(n) >= HeaderLen:
			return int(n), nil
		case errno == unix.EAGAIN && !wait:
			return 0, nil
		case errno == unix.EAGAIN:
			errno = q.wait(unix.POLLIN)
		case errno == unix.EBADFD:
			return 0, ErrRemoved
		}
		if errno != 0 && errno != unix.EINTR && !q.closed.Load() {
			return 0, fmt.Errorf("tun: read: %w", errno)
		}
	}
	return 0, ErrClosed
}

// wait blocks until the descriptor is ready for events or Close was called.
func (q *queue) wait(events int16) unix.Errno {
	set := [2]unix.PollFd{{Fd: int32(q.fd), Events: events}, {Fd: int32(q.wake), Events: unix.POLLIN}}
	_, _, errno := unix.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&set)), 2, 0, 0, 0, 0)
	return errno
}

// Write implements Queue.
func (q *queue) Write(pieces [][]byte) error {
	if len(pieces) > MaxPieces {
		return fmt.Errorf("%w: %d pieces in one write, at most %d", ErrConfig, len(pieces), MaxPieces)
	}
	var vectors [MaxPieces]unix.Iovec
	for i, piece := range pieces {
		vectors[i].Base = unsafe.SliceData(piece)
		vectors[i].SetLen(len(piece))
	}
	q.using.RLock()
	defer q.using.RUnlock()
	for !q.closed.Load() {
		_, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(q.fd),
			uintptr(unsafe.Pointer(&vectors)), uintptr(len(pieces)))
		switch errno {
		case 0:
			return nil
		case unix.EAGAIN:
			errno = q.wait(unix.POLLOUT)
		}
		if errno != 0 && errno != unix.EINTR && !q.closed.Load() {
			return fmt.Errorf("tun: write: %w", errno)
		}
	}
	return ErrClosed
}
