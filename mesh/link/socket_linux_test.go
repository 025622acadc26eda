package link

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// open listens on one socket and closes it with the test.
func open(t testing.TB, addr string) *socket { return openAs(t, addr, Config{}) }

// openAs is open with a socket of its own kind.
func openAs(t testing.TB, addr string, c Config) *socket {
	t.Helper()
	c.Addr = netip.MustParseAddrPort(addr)
	sockets, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sockets[0].Close() })
	return sockets[0].(*socket)
}

func to(s *socket) Path { return Path{Remote: s.LocalAddr()} }

// pattern fills a train so that every datagram differs.
func pattern(n, segment int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i/segment*7 + i)
	}
	return b
}

// collect receives until n bytes have come and checks how they were cut.
func collect(t testing.TB, s *socket, n, segment int) []byte {
	t.Helper()
	b, got := make([]byte, MaxTrain), []byte(nil)
	for len(got) < n {
		train, err := s.Receive(b)
		if err != nil {
			t.Fatal(err)
		}
		if train.Segment != segment && train.Len > segment {
			t.Fatalf("train of %d bytes has segment %d, want %d", train.Len, train.Segment, segment)
		}
		got = append(got, b[:train.Len]...)
	}
	return got
}

func TestTrainArrivesWhole(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		a, b := open(t, addr), open(t, addr)
		want := pattern(45*1400-300, 1400)
		if err := a.Send(want, 1400, to(b)); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, MaxTrain)
		train, err := b.Receive(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if train.Len != len(want) || train.Segment != 1400 || !bytes.Equal(buffer[:train.Len], want) {
			t.Errorf("%s: received %d bytes in segments of %d", addr, train.Len, train.Segment)
		}
		if train.Path.Remote != a.LocalAddr() || train.Path.Local != b.LocalAddr().Addr() {
			t.Errorf("%s: path %+v, want from %v to %v", addr, train.Path, a.LocalAddr(), b.LocalAddr())
		}
	}
}

func TestSingleDatagram(t *testing.T) {
	a, b := open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
	for _, segment := range []int{0, 3, 99} {
		if err := a.Send([]byte("abc"), segment, to(b)); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 100)
		train, err := b.Receive(buffer)
		if err != nil || train.Len != 3 || train.Segment != 3 {
			t.Errorf("segment %d: received %+v, %v", segment, train, err)
		}
	}
}

// At the limits (I10): more than MaxSegments datagrams and more than MaxTrain
// bytes in one Send go out in several trains.
func TestSendSplitsAtLimits(t *testing.T) {
	for _, c := range []struct{ n, segment int }{
		{MaxSegments * 10, 10}, {MaxSegments*10 + 1, 10}, {3*MaxSegments*10 - 5, 10},
		{MaxTrain, 1436}, {49 * 1436, 1436}, {2 * 65000, 65000}, {200000, 1436},
	} {
		t.Run(fmt.Sprint(c.n, "/", c.segment), func(t *testing.T) {
			a, b := open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
			want := pattern(c.n, c.segment)
			if err := a.Send(want, c.segment, to(b)); err != nil {
				t.Fatal(err)
			}
			if got := collect(t, b, c.n, c.segment); !bytes.Equal(got, want) {
				t.Error("received other bytes")
			}
			if a.noTrains.Load() {
				t.Error("fell back to single datagrams")
			}
		})
	}
}

func TestDualStackReportsPlainIPv4(t *testing.T) {
	dual, v4, v6 := open(t, "[::]:0"), open(t, "127.0.0.1:0"), open(t, "[::1]:0")
	port := dual.LocalAddr().Port()
	for _, peer := range []*socket{v4, v6} {
		addr := peer.LocalAddr().Addr()
		want := pattern(5000, 1000)
		if err := peer.Send(want, 1000, Path{Remote: netip.AddrPortFrom(addr, port)}); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, MaxTrain)
		train, err := dual.Receive(buffer)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Path{Local: addr, Remote: peer.LocalAddr()}); train.Path != want {
			t.Errorf("path %+v, want %+v", train.Path, want)
		}
		if err := dual.Send(buffer[:train.Len], train.Segment, train.Path); err != nil {
			t.Fatalf("answer to %v: %v", train.Path, err)
		}
		if got := collect(t, peer, 5000, 1000); !bytes.Equal(got, want) {
			t.Error("the answer has other bytes")
		}
	}
}

func TestLocalAddressIsHonoured(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", "[::]:0"} {
		a, b := open(t, addr), open(t, "127.0.0.1:0")
		path := Path{Local: netip.MustParseAddr("127.0.0.9"), Remote: b.LocalAddr()}
		if err := a.Send(pattern(900, 300), 300, path); err != nil {
			t.Fatal(err)
		}
		train, err := b.Receive(make([]byte, MaxTrain))
		if err != nil {
			t.Fatal(err)
		}
		if train.Path.Remote.Addr() != path.Local {
			t.Errorf("%s: sent from %v, want %v", addr, train.Path.Remote, path.Local)
		}
		path.Local = netip.MustParseAddr("192.0.2.1")
		if err := a.Send([]byte("x"), 1, path); err == nil {
			t.Errorf("%s: sent from an address the host does not have", addr)
		}
		if a.noTrains.Load() {
			t.Errorf("%s: a missing address was taken for missing trains", addr)
		}
	}
}

// TestTOSTravels: DSCP and ECN go with a train and come with it, whatever the
// families of the sockets; the path they came by is that of every class.
func TestTOSTravels(t *testing.T) {
	dual, v4, v6 := open(t, "[::]:0"), open(t, "127.0.0.1:0"), open(t, "[::1]:0")
	buffer := make([]byte, MaxTrain)
	for _, peer := range []*socket{v4, v6} {
		addr := peer.LocalAddr().Addr()
		there := Path{Local: addr, Remote: netip.AddrPortFrom(addr, dual.LocalAddr().Port())}
		for _, tos := range []uint8{0, 1, 2, 3, 0xb8, 0xff} {
			there.TOS = tos
			if err := peer.Send(pattern(2500, 1000), 1000, there); err != nil {
				t.Fatal(err)
			}
			train, err := dual.Receive(buffer)
			if err != nil || train.TOS != tos || train.Path.TOS != 0 || train.Segment != 1000 {
				t.Fatalf("%v: sent %#x, received %+v, %v", addr, tos, train, err)
			}
			back := train.Path
			back.TOS = train.TOS
			if err := dual.Send(buffer[:train.Len], train.Segment, back); err != nil {
				t.Fatal(err)
			}
			if train, err = peer.Receive(buffer); err != nil || train.TOS != tos {
				t.Errorf("%v: answered %#x, received %+v, %v", addr, tos, train, err)
			}
		}
	}
}

func TestWrongFamilyIsRefused(t *testing.T) {
	a := open(t, "127.0.0.1:0")
	for _, path := range []Path{
		{Remote: netip.MustParseAddrPort("[::1]:9")},
		{Local: netip.MustParseAddr("::1"), Remote: netip.MustParseAddrPort("127.0.0.1:9")},
		{},
	} {
		if err := a.Send([]byte("x"), 1, path); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: %v, want ErrConfig", path, err)
		}
	}
}

// Without checksums the kernel refuses UDP_SEGMENT with EINVAL.
func TestFallbackToSinglesIsRemembered(t *testing.T) {
	a, b := open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
	if err := unix.SetsockoptInt(a.fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		want := pattern(2500, 1000)
		if err := a.Send(want, 1000, to(b)); err != nil {
			t.Fatal(err)
		}
		if got := collect(t, b, 2500, 1000); !bytes.Equal(got, want) {
			t.Error("received other bytes")
		}
		if !a.noTrains.Load() {
			t.Error("the refusal was not remembered")
		}
	}
}

func TestReceiverSurvivesICMP(t *testing.T) {
	a, b, gone := open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
	// With IP_RECVERR an unconnected socket gets every ICMP error.
	if err := unix.SetsockoptInt(a.fd, unix.SOL_IP, unix.IP_RECVERR, 1); err != nil {
		t.Fatal(err)
	}
	nowhere := to(gone)
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Send([]byte("into the void"), 0, nowhere); err != nil {
		t.Fatal(err)
	}
	if err := b.Send([]byte("hello"), 0, to(a)); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, a, 5, 5); string(got) != "hello" {
		t.Errorf("received %q", got)
	}
	if err := a.Send([]byte("into the void"), 0, nowhere); err != nil {
		t.Fatal(err)
	}
	if err := a.Send([]byte("again"), 0, to(b)); err != nil {
		t.Errorf("an earlier datagram's ICMP error reached a later Send: %v", err)
	}
}

func TestShortBufferKeepsWholeDatagrams(t *testing.T) {
	a, b := open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
	want := pattern(10*1000, 1000)
	if err := a.Send(want, 1000, to(b)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 3500)
	train, err := b.Receive(buffer)
	if err != nil {
		t.Fatal(err)
	}
	if train.Len != 3000 || train.Segment != 1000 || !bytes.Equal(buffer[:3000], want[:3000]) {
		t.Errorf("received %+v", train)
	}
	if b.Lost() != 7 {
		t.Errorf("Lost() = %d, want 7", b.Lost())
	}
}

func TestLostCountsKernelDrops(t *testing.T) {
	a, b := open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
	if err := unix.SetsockoptInt(b.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4096); err != nil {
		t.Fatal(err)
	}
	const sent = 100
	for range sent {
		if err := a.Send(make([]byte, 500), 0, to(b)); err != nil {
			t.Fatal(err)
		}
	}
	// The datagram sent now tells of those dropped before it.
	received := drain(t, b)
	if err := a.Send([]byte("last"), 0, to(b)); err != nil {
		t.Fatal(err)
	}
	collect(t, b, 4, 4)
	if lost := b.Lost(); lost == 0 || int(lost)+received != sent {
		t.Errorf("Lost() = %d, received %d, sent %d", lost, received, sent)
	}
}

// drain receives what waits now.
func drain(t *testing.T, s *socket) (datagrams int) {
	t.Helper()
	poll := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	for {
		if n, err := unix.Poll(poll, 0); err != nil || n == 0 {
			return datagrams
		}
		train, err := s.Receive(make([]byte, MaxTrain))
		if err != nil {
			t.Fatal(err)
		}
		datagrams += train.Count()
	}
}

func TestCloseWakesReceive(t *testing.T) {
	for range 20 {
		s := open(t, "127.0.0.1:0")
		done := make(chan error, 1)
		go func() {
			_, err := s.Receive(make([]byte, 100))
			done <- err
		}()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Fatalf("Receive returned %v, want ErrClosed", err)
		}
	}
}

func TestAfterClose(t *testing.T) {
	s := open(t, "127.0.0.1:0")
	path := to(s)
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Send([]byte("x"), 0, path); !errors.Is(err, ErrClosed) {
		t.Errorf("Send: %v", err)
	}
	if _, err := s.Receive(make([]byte, 9)); !errors.Is(err, ErrClosed) {
		t.Errorf("Receive: %v", err)
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		a, b := open(t, addr), open(t, addr)
		train, buffer := pattern(20*1400, 1400), make([]byte, MaxTrain)
		path := Path{Local: a.LocalAddr().Addr(), Remote: b.LocalAddr()}
		allocs := testing.AllocsPerRun(200, func() {
			if err := a.Send(train, 1400, path); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Receive(buffer); err != nil {
				t.Fatal(err)
			}
		})
		if allocs != 0 {
			t.Errorf("%s: %v allocations for one Send and one Receive", addr, allocs)
		}
	}
}

// Send is concurrent: trains of several senders stay whole.
func TestConcurrentSend(t *testing.T) {
	a, b := open(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
	const senders, trains = 4, 20
	for i := range senders {
		go func() {
			for range trains {
				_ = a.Send(bytes.Repeat([]byte{byte(i)}, 1000), 250, to(b))
			}
		}()
	}
	for n := 0; n < senders*trains*1000; {
		buffer := make([]byte, MaxTrain)
		train, err := b.Receive(buffer)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < train.Len; i += 250 {
			if !bytes.Equal(buffer[i:i+250], bytes.Repeat(buffer[i:i+1], 250)) {
				t.Fatal("a datagram mixes two senders")
			}
		}
		n += train.Len
	}
}

func BenchmarkTrain(b *testing.B) {
	x, y := open(b, "127.0.0.1:0"), open(b, "127.0.0.1:0")
	train, buffer := pattern(45*1400, 1400), make([]byte, MaxTrain)
	b.SetBytes(int64(len(train)))
	b.ReportAllocs()
	for b.Loop() {
		if err := x.Send(train, 1400, to(y)); err != nil {
			b.Fatal(err)
		}
		if _, err := y.Receive(buffer); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSmall is eight datagrams of a sealed ACK's size, sent one by one or
// padded to one size and sent as a train; what a train would save.
func BenchmarkSmall(b *testing.B) {
	const count, size = 8, 92
	for name, segment := range map[string]int{"singles": size, "train": count * size} {
		b.Run(name, func(b *testing.B) {
			x, y := open(b, "127.0.0.1:0"), open(b, "127.0.0.1:0")
			all, buffer := pattern(count*size, size), make([]byte, MaxTrain)
			for b.Loop() {
				for at := 0; at < len(all); at += segment {
					if err := x.Send(all[at:at+segment], size, to(y)); err != nil {
						b.Fatal(err)
					}
				}
				for got := 0; got < len(all); {
					t, err := y.Receive(buffer)
					if err != nil {
						b.Fatal(err)
					}
					got += t.Len
				}
			}
		})
	}
}
