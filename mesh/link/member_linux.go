package link

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// member is a socket of a Group.
type member struct {
	*socket
	group   *Group
	receive func([]byte, Train)
	number  int32
	state   atomic.Int32 // atRest, beingRead or lookAgain
	pace                 // of whoever reads
}

// pace is when a reader was woken last, and how often at short intervals.
type pace struct {
	woken time.Duration
	wakes int
}

var _ Sender = (*member)(nil)

// The kernel tells of each arrival once, and whichever reader waits. What comes
// while a reader is at work is that one's too, or trains would overtake each other.
const (
	atRest = iota
	beingRead
	lookAgain // and something has come meanwhile
)

// sharedReceiver has a buffer for each place. After a train it asks for both: that
// one came says that no more waits.
type sharedReceiver struct {
	receiver
	first []byte
}

const both = 2

func newSharedReceiver() *sharedReceiver {
	r := &sharedReceiver{receiver{least: both}, make([]byte, aheadBytes)}
	r.open()
	return r
}

func (r *sharedReceiver) buffer(place int) []byte {
	if place == 0 {
		return r.first
	}
	return r.ahead[place-1]
}

// claim makes the caller the reader, or has the reader there is look again.
func (m *member) claim() bool {
	for {
		if m.state.CompareAndSwap(atRest, beingRead) {
			return true
		}
		if m.state.CompareAndSwap(beingRead, lookAgain) || m.state.Load() == lookAgain {
			return false
		}
	}
}

// attend takes what waits.
func (m *member) attend() {
	if !m.claim() || m.busy(time.Since(m.group.started), busyWithin) && m.part() {
		return
	}
	r := m.group.buffers()
	defer m.group.giveBack(r)
	for m.drain(r) {
		if m.state.CompareAndSwap(beingRead, atRest) {
			return
		}
		m.state.Store(beingRead)
	}
	m.giveWay()
}

// busy notes that the reader is woken, and reports whether so much comes that it is worth
// to wait in a system call.
func (p *pace) busy(now, within time.Duration) bool {
	if p.wakes++; now-p.woken > within {
		p.wakes /= 2
	}
	p.woken = now
	return p.wakes >= busyAfter
}

// part gives the socket a goroutine of its own, if there may be one more: waiting in
// recvmsg costs less than waiting for the set and then asking.
func (m *member) part() bool {
	select {
	case m.group.own <- struct{}{}:
	default:
		return false
	}
	m.wakes = 0
	m.using.RLock()
	defer m.using.RUnlock()
	limit := unix.NsecToTimeval(int64(m.group.quietAfter))
	if m.closed.Load() || unix.SetsockoptTimeval(m.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit) != nil || m.arm(0) != nil {
		<-m.group.own
		return false
	}
	m.group.readers.Go(m.readAlone)
	return true
}

// readAlone reads until it is quiet, and puts the socket back.
func (m *member) readAlone() {
	r := m.group.buffers()
	r.least = 1 // what else waits the next call brings
	for r.ask = 1; m.alone(r); {
	}
	r.least = both
	m.group.giveBack(r)
	<-m.group.own
	m.giveWay()
}

// alone waits for one message or more; false when it was in vain.
func (m *member) alone(r *sharedReceiver) bool {
	errno := m.take(r, unix.MSG_WAITFORONE)
	if errno != unix.EAGAIN && (passing(errno) || hopeful(errno)) {
		return true
	}
	m.deliver(r)
	return errno == 0
}

// giveWay lets others have their turn before what is left here, at whichever reader.
func (m *member) giveWay() {
	m.state.Store(atRest)
	m.using.RLock()
	defer m.using.RUnlock()
	if !m.closed.Load() {
		_ = m.arm(waking) // it is in the set, so this cannot fail
	}
}

// waking is what the kernel tells of a socket: that something has come.
const waking = unix.EPOLLIN | unix.EPOLLET

// arm says what the kernel is to tell of a socket in the set. What waits it tells again.
func (m *member) arm(of uint32) error {
	return unix.EpollCtl(m.group.poll, unix.EPOLL_CTL_MOD, m.fd, &unix.EpollEvent{Events: of, Fd: m.number})
}

// drain takes what waits, a turn at most, and reports whether that was all.
func (m *member) drain(r *sharedReceiver) (all bool) {
	r.ask = r.least
	for taken := 0; taken < turn; taken += max(r.got, 1) {
		asked := r.ask
		errno := m.take(r, unix.MSG_DONTWAIT)
		switch {
		case errno == unix.EAGAIN:
			return true
		case passing(errno) || hopeful(errno):
			continue
		case errno != 0:
			return true // closed; or nothing that asking again would mend
		}
		m.deliver(r)
		if r.got < asked {
			return true
		}
	}
	return false
}

// deliver gives the receiver what was taken.
func (m *member) deliver(r *sharedReceiver) {
	for i := range r.got {
		b := r.buffer(i)
		if t, ok := m.train(&r.receiver, i, len(b), int(r.headers[i].size)); ok {
			m.receive(b[:t.Len], t)
		}
	}
}

// take asks for what is there.
func (m *member) take(r *sharedReceiver, flags int) unix.Errno {
	m.using.RLock()
	defer m.using.RUnlock()
	if r.got = 0; m.closed.Load() {
		return unix.EBADF
	}
	return m.fetch(&r.receiver, r.first, flags)
}

// Close implements Sender. What was taken up already may still reach the receiver.
func (m *member) Close() error {
	m.group.remove(m)
	return m.socket.Close()
}
