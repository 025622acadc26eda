package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
)

// openAnswers is open with a socket that only hears answers.
func openAnswers(t testing.TB, addr string) *socket { return openAs(t, addr, Config{Answers: true}) }

// knock sends a datagram to an address of a socket's host and reports whether it
// is queued there; if not, it must be counted.
func knock(t *testing.T, from, s *socket, host string, b []byte, segment int) bool {
	t.Helper()
	before := s.Lost()
	to := netip.AddrPortFrom(netip.MustParseAddr(host), s.LocalAddr().Port())
	if err := from.Send(b, segment, Path{Remote: to}); err != nil {
		t.Fatal(err)
	}
	got := drain(t, s) > 0
	if lost := s.Lost() > before; lost == got {
		t.Errorf("from %v: received %v, counted as lost %v", from.LocalAddr(), got, lost)
	}
	return got
}

// TestOnlyAnswersAreHeard: whoever was not sent to is dropped before he is
// queued, and counted.
func TestOnlyAnswersAreHeard(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::]:0"} {
		s, friend, stranger := openAnswers(t, addr), open(t, "127.0.0.2:0"), open(t, "127.0.0.3:0")
		reach := func(from *socket) bool { return knock(t, from, s, "127.0.0.1", []byte("hello"), 0) }
		if err := s.Send([]byte("hello"), 0, to(friend)); err != nil {
			t.Fatal(err)
		}
		if !reach(friend) || reach(stranger) {
			t.Errorf("%s: an answer is not heard, or a stranger is", addr)
		}
		if err := s.Send([]byte("hello"), 0, to(stranger)); err != nil {
			t.Fatal(err)
		}
		if !reach(friend) || !reach(stranger) {
			t.Errorf("%s: not both are heard that were sent to", addr)
		}
	}
	six, other := openAnswers(t, "[::1]:0"), open(t, "[::1]:0")
	if err := six.Send([]byte("hello"), 0, Path{Remote: netip.MustParseAddrPort("[2001:db8::1]:9")}); err == nil {
		t.Log("this host has a route to documentation")
	}
	if knock(t, other, six, "::1", []byte("hello"), 0) {
		t.Error("a stranger is heard by IPv6")
	}
	if err := six.Send([]byte("hello"), 0, to(other)); err != nil || !knock(t, other, six, "::1", []byte("hello"), 0) {
		t.Errorf("an answer is not heard by IPv6: %v", err)
	}
}

// sealed is the length and head of a packet under SPI 77.
func sealed(sequence uint32, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint32(b, 77)
	binary.BigEndian.PutUint32(b[4:], sequence)
	return b
}

// TestConfine: what is below the newest window of an SPI is dropped; trains,
// which may hold something better, are not.
func TestConfine(t *testing.T) {
	const local = "127.0.0.1"
	s, friend := openAnswers(t, local+":0"), open(t, local+":0")
	if err := s.Send([]byte("hello"), 0, to(friend)); err != nil {
		t.Fatal(err)
	}
	for _, from := range []uint32{0, 10, 1 << 20} {
		if err := s.Confine(Window{77, from, 1 << 20}); err != nil {
			t.Fatal(err)
		}
		for _, sequence := range []uint32{1, 9, 10, 11, 1<<20 - 1, 1 << 20} {
			if got := knock(t, friend, s, local, sealed(sequence, 1400), 0); got != (sequence >= from) {
				t.Errorf("from %d: %d is heard %v", from, sequence, got)
			}
		}
		if !knock(t, friend, s, local, sealed(1, 4200), 1400) || !knock(t, friend, s, local, sealed(1, 8)[:7], 0) {
			t.Error("a train, or what is too short to be judged, is not heard")
		}
	}
	if plain := open(t, local+":0"); plain.Confine(Window{77, 10, 20}) != nil || !knock(t, friend, plain, local, sealed(1, 1400), 0) {
		t.Error("a socket that hears everybody refuses something")
	}
}

// TestConfineSamples: of what is beyond a window a part is heard, for the peer
// may have got there; all of it is when the bound is lifted.
func TestConfineSamples(t *testing.T) {
	const local, last, count = "127.0.0.1", 1 << 20, 1000
	s, friend := openAnswers(t, local+":0"), open(t, local+":0")
	if err := s.Send([]byte("hello"), 0, to(friend)); err != nil {
		t.Fatal(err)
	}
	heard := func(w Window) (n int) {
		if err := s.Confine(w); err != nil {
			t.Fatal(err)
		}
		if err := s.Confine(Window{SPI: 78, To: 1}); err != nil { // another's bound is not its own
			t.Fatal(err)
		}
		for range count {
			if knock(t, friend, s, local, sealed(last+1, 100), 0) {
				n++
			}
		}
		return n
	}
	// One in 16 of 1,000 is 63 with a deviation of 8.
	if n := heard(Window{77, 1, last}); n < 15 || n > 125 {
		t.Errorf("%d of %d beyond the window are heard", n, count)
	}
	if n := heard(Window{77, 1, Unbounded}); n != count {
		t.Errorf("without a bound %d of %d are heard", n, count)
	}
}

// TestMaxAnswering: the oldest host is forgotten, and the oldest window (I10).
func TestMaxAnswering(t *testing.T) {
	s, friend := openAnswers(t, "127.0.0.1:0"), open(t, "127.0.0.2:0")
	reach := func() bool {
		b := make([]byte, 100)
		binary.BigEndian.PutUint32(b, 1)
		return knock(t, friend, s, "127.0.0.1", b, 0)
	}
	greet := func(host string) {
		if err := s.Send([]byte("hello"), 0, Path{Remote: netip.AddrPortFrom(netip.MustParseAddr(host), 9)}); err != nil {
			t.Fatal(err)
		}
	}
	greet("127.0.0.2")
	for i := range MaxAnswering {
		if !reach() {
			t.Fatalf("forgotten after %d others", i)
		}
		greet(fmt.Sprintf("127.0.1.%d", i))
	}
	if reach() {
		t.Error("not forgotten")
	}
	greet("127.0.0.2")
	for i := range MaxWindows + 1 {
		if err := s.Confine(Window{uint32(i + 1), 10, Unbounded}); err != nil {
			t.Fatal(err)
		}
		if got := reach(); got != (i == MaxWindows) {
			t.Fatalf("%d SPIs confined: heard %v", i+1, got)
		}
	}
}

// TestAnswersDoNotAllocate, nor do they cost a Send more than a comparison.
func TestAnswersDoNotAllocate(t *testing.T) {
	s, friend := openAnswers(t, "127.0.0.1:0"), open(t, "127.0.0.1:0")
	b, path := make([]byte, 100), to(friend)
	allocs := testing.AllocsPerRun(100, func() {
		if err := s.Send(b, 0, path); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for one Send", allocs)
	}
}
