package link

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Group is many sockets that few goroutines read: each takes what waits at one
// after the other, into buffers that all of them share. So a socket costs its
// descriptor and some 300 bytes of memory, and neither a thread nor a buffer. The
// busiest have a goroutine of their own while they are.
type Group struct {
	poll, wake int             // descriptors: the set of all, and what ends the readers
	file       *os.File        // of poll, in Go's poller
	raw        syscall.RawConn // of file
	readers    sync.WaitGroup
	own        chan struct{} // a place for each goroutine that reads one socket
	started    time.Time
	quietAfter time.Duration // for tests to change

	spareMu sync.Mutex // protects spare
	spare   []*sharedReceiver

	mu      sync.RWMutex // protects what follows
	members []*member    // by the number that the kernel knows them by; nil: free
	free    []int32      // numbers
	closed  bool
}

// wakeUp is the number of what ends the readers.
const wakeUp = -1

// NewGroup makes a group without sockets, read by so many goroutines.
func NewGroup(readers int) (*Group, error) {
	if readers < 1 || readers > MaxReaders {
		return nil, fmt.Errorf("%w: %d readers, the limit is %d", ErrConfig, readers, MaxReaders)
	}
	g := &Group{own: make(chan struct{}, ownReaders*readers), started: time.Now(), quietAfter: quietAfter}
	var err error
	if g.poll, g.file, g.raw, err = newSet(); err != nil {
		return nil, fmt.Errorf("link: open a group of sockets: %w", err)
	}
	if g.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = g.file.Close()
		return nil, fmt.Errorf("link: open a group of sockets: %w", err)
	}
	err = unix.EpollCtl(g.poll, unix.EPOLL_CTL_ADD, g.wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeUp})
	if err != nil {
		g.release()
		return nil, fmt.Errorf("link: open a group of sockets: %w", err)
	}
	for range readers {
		g.readers.Go(g.read)
	}
	return g, nil
}

// Open opens one more socket. What arrives is given to receive, one train after
// the other; the bytes are receive's until it returns. It must not wait for Close
// of the group.
func (g *Group) Open(addr netip.AddrPort, receive func(b []byte, t Train)) (Sender, error) {
	c, err := Config{Addr: addr}.check()
	if err != nil {
		return nil, err
	}
	s, err := openOne(c)
	if err != nil {
		return nil, err
	}
	m := &member{socket: s, group: g, receive: receive}
	if err := g.add(m); err != nil {
		_ = s.end()
		return nil, fmt.Errorf("link: add the socket of %v to its group: %w", s.local, err)
	}
	return m, nil
}

// add gives a member its number. Whoever has none left over has too many sockets.
func (g *Group) add(m *member) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return ErrClosed
	}
	if n := len(g.free); n > 0 {
		m.number, g.free = g.free[n-1], g.free[:n-1]
	} else if m.number = int32(len(g.members)); m.number < MaxMembers {
		g.members = append(g.members, nil)
	} else {
		return fmt.Errorf("%w: more than %d sockets", ErrConfig, MaxMembers)
	}
	if err := unix.EpollCtl(g.poll, unix.EPOLL_CTL_ADD, m.fd, &unix.EpollEvent{Events: waking, Fd: m.number}); err != nil {
		g.free = append(g.free, m.number)
		return err
	}
	g.members[m.number] = m
	return nil
}

// remove frees a member's number. What the kernel still says of it will have the
// next one looked at for nothing. The last member takes all numbers along, and the
// buffers.
func (g *Group) remove(m *member) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if int(m.number) >= len(g.members) || g.members[m.number] != m {
		return // it went before
	}
	g.members[m.number] = nil
	g.free = append(g.free, m.number)
	if len(g.free) == len(g.members) {
		g.members, g.free = nil, nil
		g.spareMu.Lock()
		defer g.spareMu.Unlock()
		g.spare = nil
	}
}

// buffers gives a reader those that were used last, for they are in the caches. A
// sync.Pool does not: it keeps them by CPU, and the reader comes back on another.
func (g *Group) buffers() *sharedReceiver {
	g.spareMu.Lock()
	defer g.spareMu.Unlock()
	n := len(g.spare)
	if n == 0 {
		return newSharedReceiver()
	}
	r := g.spare[n-1]
	g.spare = g.spare[:n-1]
	return r
}

func (g *Group) giveBack(r *sharedReceiver) {
	g.spareMu.Lock()
	defer g.spareMu.Unlock()
	g.spare = append(g.spare, r)
}

func (g *Group) member(number int32) *member {
	g.mu.RLock()
	defer g.mu.RUnlock()
	if number < 0 || int(number) >= len(g.members) {
		return nil
	}
	return g.members[number]
}

// Close closes every socket and waits for the readers.
func (g *Group) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return nil
	}
	g.closed = true
	all := slices.Clone(g.members)
	g.mu.Unlock()
	for _, m := range all {
		if m != nil {
			_ = m.Close()
		}
	}
	// The readers' wait ends, one after the other, for nobody takes this away.
	_, err := unix.Write(g.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	g.readers.Wait()
	g.release()
	return err
}

func (g *Group) release() {
	_ = unix.Close(g.wake)
	_ = g.file.Close()
}

// read is one reader. All wait in Go's poller, see rest: one after the other looks into the
// set and waits, and who has something lets the next one look.
func (g *Group) read() {
	var ready [readyAtOnce]unix.EpollEvent
	var n int
	var err error
	look := func(uintptr) bool {
		n, err = unix.EpollWait(g.poll, ready[:], 0)
		return n > 0 || err != nil && err != unix.EINTR
	}
	for {
		if g.raw.Read(look) != nil || err != nil {
			return // the set is no set: impossible while the group lives
		}
		for _, e := range ready[:n] {
			if e.Fd == wakeUp {
				return
			}
			if m := g.member(e.Fd); m != nil {
				m.attend()
			}
		}
	}
}
