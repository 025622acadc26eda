package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

func group(t testing.TB, readers int) *Group {
	t.Helper()
	g, err := NewGroup(readers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func join(t testing.TB, g *Group, receive func([]byte, Train)) Sender {
	t.Helper()
	s, err := g.Open(anyPort, receive)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// entries is how many there are in a directory of /proc/self.
func entries(t testing.TB, of string) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/" + of)
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// await waits for something that other goroutines do.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("not in 20 s: %s", what)
		case <-time.After(time.Millisecond):
		}
	}
}

// TestGroupReceives: trains and single datagrams come whole, with their path, and
// those of one sender in order, though many readers are at work; and go out as well.
func TestGroupReceives(t *testing.T) {
	const rounds = 3000
	g := group(t, 8)
	var next, wrong atomic.Uint64
	peer := open(t, "127.0.0.1:0")
	s := join(t, g, func(b []byte, train Train) {
		n := next.Load()
		for at := 0; at < train.Len; at += train.Segment {
			if binary.BigEndian.Uint64(b[at:]) != n {
				wrong.Add(1)
			}
			n++
		}
		runtime.Gosched() // another reader may be told of what comes now
		if train.Path.Remote != peer.LocalAddr() || !next.CompareAndSwap(n-uint64(train.Count()), n) {
			wrong.Add(1)
		}
	})
	b, n := make([]byte, 20_000), uint64(0)
	for i := range rounds {
		size, segment := 100, 100
		if i%9 == 8 {
			size, segment = 20_000, 1000
		}
		for at := 0; at < size; at += segment {
			binary.BigEndian.PutUint64(b[at:], n)
			n++
		}
		if err := peer.Send(b[:size], segment, Path{Remote: s.LocalAddr()}); err != nil {
			t.Fatal(err)
		}
	}
	await(t, fmt.Sprintf("%d datagrams, not %d", n, next.Load()), func() bool { return next.Load() == n || wrong.Load() > 0 })
	if wrong.Load() > 0 || s.Lost() > 0 {
		t.Errorf("%d trains are not what was sent, %d datagrams lost", wrong.Load(), s.Lost())
	}
	if err := s.Send(b[:4000], 1000, to(peer)); err != nil {
		t.Fatal(err)
	}
	collect(t, peer, 4000, 1000)
}

// TestGroupLooksAgain: what comes while a reader believes that it has all is taken by
// that one too, and not left for the next arrival.
func TestGroupLooksAgain(t *testing.T) {
	g := group(t, 2)
	peer := open(t, "127.0.0.1:0")
	var got atomic.Int64
	begin := make(chan struct{})
	s := join(t, g, func([]byte, Train) { got.Add(1); <-begin })
	for n := range 2 {
		if err := peer.Send([]byte("x"), 0, Path{Remote: s.LocalAddr()}); err != nil {
			t.Fatal(err)
		}
		await(t, "the first one", func() bool { return got.Load() == 1 })
		await(t, "the other reader", func() bool { return n == 0 || s.(*member).state.Load() == lookAgain })
	}
	close(begin)
	await(t, "the second one", func() bool { return got.Load() == 2 })
}

// TestGroupBusiest: a busy socket has a reader of its own while there is a place, and
// until it is quiet; its trains stay in order across both changes.
func TestGroupBusiest(t *testing.T) {
	const rounds = 2
	g := group(t, 1)
	g.quietAfter = time.Second
	peer := open(t, "127.0.0.1:0")
	var wrong atomic.Int64
	var got [ownReaders + 1]atomic.Int64
	var all [ownReaders + 1]Sender
	for n := range all {
		all[n] = join(t, g, func(b []byte, train Train) {
			for at := 0; at < train.Len; at += train.Segment {
				if int64(binary.BigEndian.Uint64(b[at:])) != got[n].Add(1) {
					wrong.Add(1)
				}
			}
		})
		m := all[n].(*member) // so many wakes within a millisecond are no busy machine's
		g.mu.Lock()           // readers take it before they look at a member
		m.wakes, m.woken = busyAfter, time.Hour
		g.mu.Unlock()
	}
	b := make([]byte, 8)
	for round := range rounds {
		const each = 200
		for i := range each {
			for _, s := range all {
				binary.BigEndian.PutUint64(b, uint64(round*each+i+1))
				if err := peer.Send(b, 0, Path{Remote: s.LocalAddr()}); err != nil {
					t.Fatal(err)
				}
			}
			if i == 0 && round == 0 {
				await(t, "the busiest to have readers", func() bool { return len(g.own) == ownReaders })
			}
		}
		for n := range got {
			await(t, "all datagrams", func() bool { return got[n].Load() == int64((round+1)*each) })
		}
		await(t, "the busiest to be quiet", func() bool { return len(g.own) == 0 })
	}
	if wrong.Load() > 0 {
		t.Errorf("%d datagrams out of order", wrong.Load())
	}
}

// TestGroupThreads: sockets cost no threads while packets go through all of them, and
// their descriptors and memory are given back.
func TestGroupThreads(t *testing.T) {
	const sockets, readers = 2000, 2
	peer := open(t, "127.0.0.1:0")
	threads, descriptors := entries(t, "task"), entries(t, "fd")
	g := group(t, readers)
	var got atomic.Int64
	var all []Sender
	before := heap()
	for range sockets {
		all = append(all, join(t, g, func([]byte, Train) { got.Add(1) }))
	}
	each := (heap() - before) / sockets
	for _, s := range all {
		if err := peer.Send([]byte("here"), 0, Path{Remote: s.LocalAddr()}); err != nil {
			t.Fatal(err)
		}
	}
	await(t, "a datagram at every socket", func() bool { return got.Load() == sockets })
	// The runtime has some threads of its own to add.
	if n := entries(t, "task") - threads; n > readers+4*runtime.NumCPU() {
		t.Errorf("%d sockets took %d threads", sockets, n)
	}
	if each > 512 {
		t.Errorf("%d bytes for a socket, want at most 512", each)
	}
	for _, s := range all {
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if g.members != nil || g.free != nil {
		t.Error("the numbers of all are kept")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if n := entries(t, "fd"); n != descriptors {
		t.Errorf("%d descriptors are open, %d were before", n, descriptors)
	}
}

// heap is how much memory is in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what a pool kept over the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestGroupRests: readers to which something comes now and then do not wait in system calls.
func TestGroupRests(t *testing.T) {
	g := group(t, 8)
	peer := open(t, "127.0.0.1:0")
	var got atomic.Int64
	s := join(t, g, func([]byte, Train) { got.Add(1) })
	for n := range int64(20) {
		if err := peer.Send([]byte("now and then"), 0, Path{Remote: s.LocalAddr()}); err != nil {
			t.Fatal(err)
		}
		await(t, "a datagram", func() bool { return got.Load() == n+1 })
		await(t, "nobody in a system call", func() bool { return inCalls() == 0 })
	}
}

// TestGroupPortsAreApart: the kernel gives no port out twice, of thousands.
func TestGroupPortsAreApart(t *testing.T) {
	g := group(t, 1)
	seen := map[netip.AddrPort]bool{}
	for range 3000 {
		at := join(t, g, func([]byte, Train) {}).LocalAddr()
		if seen[at] {
			t.Fatalf("two sockets at %v", at)
		}
		seen[at] = true
	}
}

// TestGroupTurns: a socket at which it never ends keeps no other waiting, though
// there is one reader only, and loses nothing for that.
func TestGroupTurns(t *testing.T) {
	const flood = 8 * turn
	g := group(t, 1)
	peer := open(t, "127.0.0.1:0")
	var hot Sender
	var got, at atomic.Int64
	quiet := join(t, g, func([]byte, Train) { at.Store(got.Load()) })
	begin, ready := make(chan struct{}), make(chan struct{}, 1)
	hot = join(t, g, func([]byte, Train) {
		if got.Add(1) == 1 {
			ready <- struct{}{}
			<-begin
		}
	})
	send := func(to Sender) {
		if err := peer.Send([]byte("x"), 0, Path{Remote: to.LocalAddr()}); err != nil {
			t.Fatal(err)
		}
	}
	send(hot)
	<-ready // the reader holds the first one
	for range flood {
		send(hot)
	}
	send(quiet)
	close(begin)
	await(t, "all of the flood", func() bool { return got.Load() == 1+flood })
	if n := at.Load(); n == 0 || n > 2*turn {
		t.Errorf("the other socket had its turn after %d of %d messages, want %d at most", n, flood, 2*turn)
	}
}

// TestGroupCloses: also while much comes in, and nothing is received afterwards.
func TestGroupCloses(t *testing.T) {
	g := group(t, 4)
	peer := open(t, "127.0.0.1:0")
	var got atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	var places [8]atomic.Pointer[Sender]
	go func() {
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				if s := places[n%len(places)].Load(); s != nil {
					_ = peer.Send([]byte("x"), 0, Path{Remote: (*s).LocalAddr()})
				}
			}
		}
	}()
	for n := range 400 {
		place := &places[n%len(places)]
		s := join(t, g, func([]byte, Train) { got.Add(1) })
		if old := place.Swap(&s); old != nil {
			before := got.Load()
			await(t, "a datagram", func() bool { return got.Load() > before })
			if err := (*old).Close(); err != nil {
				t.Fatal(err)
			}
			if err := (*old).Send([]byte("x"), 0, to(peer)); !errors.Is(err, ErrClosed) {
				t.Fatalf("sent at a closed socket: %v", err)
			}
		}
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	before := got.Load()
	close(stop)
	<-stopped
	if got.Load() != before {
		t.Error("received after the end")
	}
	if _, err := g.Open(anyPort, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("opened at a closed group: %v", err)
	}
}

// TestGroupLimits (I10).
func TestGroupLimits(t *testing.T) {
	for _, n := range []int{0, MaxReaders + 1} {
		if _, err := NewGroup(n); !errors.Is(err, ErrConfig) {
			t.Errorf("%d readers: %v, want ErrConfig", n, err)
		}
	}
	g := group(t, 1)
	g.members = make([]*member, MaxMembers)
	if _, err := g.Open(anyPort, nil); !errors.Is(err, ErrConfig) {
		t.Errorf("more than %d sockets: %v, want ErrConfig", MaxMembers, err)
	}
	g.free = []int32{7}
	if s, err := g.Open(anyPort, func([]byte, Train) {}); err != nil || s.(*member).number != 7 {
		t.Errorf("with a free number: %v", err)
	}
	if _, err := g.Open(netip.AddrPort{}, nil); !errors.Is(err, ErrConfig) {
		t.Errorf("nowhere: %v, want ErrConfig", err)
	}
	if m := g.member(MaxMembers); m != nil {
		t.Error("a number that there is not has a socket")
	}
}

// TestGroupCountsLosses: what found no room in a socket's queue.
func TestGroupCountsLosses(t *testing.T) {
	g := group(t, 1)
	peer := open(t, "127.0.0.1:0")
	begin := make(chan struct{})
	s := join(t, g, func([]byte, Train) { <-begin })
	defer close(begin)
	if err := unix.SetsockoptInt(s.(*member).fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := peer.Send(make([]byte, 1000), 0, Path{Remote: s.LocalAddr()}); err != nil {
			t.Fatal(err)
		}
	}
	if s.Lost() == 0 {
		t.Error("nothing lost")
	}
}
