package link_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
)

// behind is two workers and a strangers' socket, which tell who received.
type behind struct {
	t       *testing.T
	sockets []link.Socket
	door    *link.Door
	got     chan int
}

const strangersSocket = 2

func openDoor(t *testing.T, address string) *behind {
	t.Helper()
	sockets, door, err := link.ListenBehindDoor(link.Config{Addr: netip.MustParseAddrPort(address), Count: 2})
	if err != nil {
		t.Fatal(err)
	}
	b := &behind{t, sockets, door, make(chan int, 1)}
	for i, s := range sockets {
		go func() {
			buffer := make([]byte, link.MaxTrain)
			for {
				if _, err := s.Receive(buffer); err != nil {
					return
				}
				b.got <- i
			}
		}()
	}
	t.Cleanup(func() {
		for _, s := range sockets {
			_ = s.Close()
		}
	})
	return b
}

// from sends one datagram of a source and gives the socket that took it.
func (b *behind) from(source string) int {
	b.t.Helper()
	var d net.Dialer
	if source != "" {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(source))
	}
	conn, err := d.Dial("udp", b.sockets[0].LocalAddr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("knock, knock")); err != nil {
		b.t.Fatal(err)
	}
	return b.receiver(source)
}

// receiver is the socket that took what source has sent.
func (b *behind) receiver(source string) int {
	b.t.Helper()
	select {
	case i := <-b.got:
		return i
	case <-time.After(30 * time.Second):
		b.t.Fatalf("nobody received from %s", source)
		return -1
	}
}

func (b *behind) know(peers ...netip.Addr) {
	b.t.Helper()
	if err := b.door.Know(peers, nil); err != nil {
		b.t.Fatal(err)
	}
}

func TestStrangersHaveADoorOfTheirOwn(t *testing.T) {
	friend, other := netip.MustParseAddr("127.0.0.5"), netip.MustParseAddr("127.0.0.6")
	for _, address := range []string{"127.0.0.1:0", "[::]:0"} { // the second gets IPv4 on an IPv6 socket
		b := openDoor(t, address)
		if b.from("127.0.0.5:0") == strangersSocket {
			t.Error("a stranger although nobody is known yet")
		}
		b.know(friend, friend, other)
		if i := b.from("127.0.0.7:0"); i != strangersSocket {
			t.Errorf("%s: a stranger came to socket %d", address, i)
		}
		workers := map[int]bool{}
		for range 40 {
			workers[b.from("127.0.0.5:0")] = true
			b.from("127.0.0.6:0")
		}
		if len(workers) != 2 || workers[strangersSocket] {
			t.Errorf("%s: a known peer's 40 ports came to the sockets %v", address, workers)
		}
		first := b.from("127.0.0.5:23456")
		for range 10 {
			if i := b.from("127.0.0.5:23456"); i != first {
				t.Errorf("%s: one path came to the sockets %d and %d", address, first, i)
			}
		}
		b.know()
		if b.from("127.0.0.7:0") == strangersSocket {
			t.Error("a stranger although nobody is known any more")
		}
	}
}

func TestDoorKnowsIPv6Prefixes(t *testing.T) {
	b := openDoor(t, "[::1]:0")
	b.know(netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("127.0.0.1"))
	if i := b.from(""); i != strangersSocket {
		t.Errorf("a stranger came to socket %d", i)
	}
	b.know(netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::2")) // of the /64 of ::1
	if i := b.from(""); i == strangersSocket {
		t.Error("a neighbour of a known peer counts as a stranger")
	}
}

// TestOutsideComesByTheStrangersDoor: what is outside a window, and nothing else
// of a known peer.
func TestOutsideComesByTheStrangersDoor(t *testing.T) {
	const a, b, first, last = 0x00500001, 0x00500002, 1 << 20, 1 << 21
	friend := netip.MustParseAddr("127.0.0.5")
	datagram := func(spi, sequence uint32, size int) []byte {
		d := make([]byte, max(size, 8))
		binary.BigEndian.PutUint32(d, spi)
		binary.BigEndian.PutUint32(d[4:], sequence)
		return d[:size]
	}
	door := openDoor(t, "127.0.0.1:0")
	from := listen(t, link.Config{Addr: netip.MustParseAddrPort("127.0.0.5:0")})[0]
	for _, known := range []bool{true, false} {
		windows := []link.Window{{SPI: a, From: first, To: last}, {SPI: b, From: 7, To: link.Unbounded}}
		if !known {
			windows = nil
		}
		if err := door.door.Know([]netip.Addr{friend}, windows); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			what    string
			b       []byte
			segment int
			outside bool
		}{
			{"just passed", datagram(a, first-1, 100), 0, true},
			{"the oldest that is taken", datagram(a, first, 100), 0, false},
			{"the newest that is expected", datagram(a, last, 100), 0, false},
			{"just beyond", datagram(a, last+1, 100), 0, true},
			{"passed at the second", datagram(b, 6, 1400), 0, true},
			{"the oldest at the second", datagram(b, 7, 1400), 0, false},
			{"the newest of all at the second", datagram(b, link.Unbounded, 1400), 0, false},
			{"another SPI", datagram(a+9, 1, 100), 0, false},
			{"too short", datagram(a, 1, 7), 0, false},
			{"no more than both words", datagram(a, 1, 8), 0, true},
			{"before something new", datagram(a, 1, 4200), 1400, false},
		} {
			if err := from.Send(c.b, c.segment, link.Path{Remote: door.sockets[0].LocalAddr()}); err != nil {
				t.Fatal(err)
			}
			if got := door.receiver(c.what) == strangersSocket; got != (c.outside && known) {
				t.Errorf("%s: told %v, with the strangers %v", c.what, known, got)
			}
		}
	}
}

// TestMaxWindows: beside as many peers as can be known, and no more (I10).
func TestMaxWindows(t *testing.T) {
	b := openDoor(t, "127.0.0.1:0")
	var peers []netip.Addr
	for i := range link.MaxKnown - 1 {
		peers = append(peers, netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%x::1", i)))
	}
	peers = append(peers, netip.MustParseAddr("127.0.0.5"))
	knock := binary.BigEndian.Uint32([]byte("knoc")) // what from sends begins with
	within, passed := link.Window{SPI: knock, From: 1, To: link.Unbounded}, link.Window{SPI: knock, From: 1 << 31, To: link.Unbounded}
	full := append(make([]link.Window, link.MaxWindows-1, link.MaxWindows+1), within)
	for _, c := range []struct {
		windows []link.Window
		want    bool
	}{
		{[]link.Window{passed}, true}, {full, false}, {append(full, passed), false},
	} {
		if err := b.door.Know(peers, c.windows); err != nil {
			t.Fatal(err)
		}
		if got := b.from("127.0.0.5:0") == strangersSocket; got != c.want {
			t.Errorf("%d told: outside %v", len(c.windows), got)
		}
	}
}

// TestMaxKnown: the kernel takes the longest program; with one peer more
// nobody is a stranger (I10).
func TestMaxKnown(t *testing.T) {
	b := openDoor(t, "127.0.0.1:0")
	var peers []netip.Addr
	for i := range link.MaxKnown {
		peers = append(peers, netip.MustParseAddr(fmt.Sprintf("2001:db8:0:%x::1", i)))
	}
	b.know(peers...)
	if i := b.from("127.0.0.7:0"); i != strangersSocket {
		t.Errorf("a stranger came to socket %d", i)
	}
	b.know(append(peers, netip.MustParseAddr("10.0.0.1"))...)
	if i := b.from("127.0.0.7:0"); i == strangersSocket {
		t.Error("a stranger although there are too many peers to know")
	}
}

// TestStrangersAreLimited: what exceeds the budget is lost at the strangers'
// socket, is counted there by the kernel to the last datagram, and nobody else
// loses anything (I10).
func TestStrangersAreLimited(t *testing.T) {
	sockets, door, err := link.ListenBehindDoor(link.Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := door.Know([]netip.Addr{netip.MustParseAddr("127.0.0.5")}, nil); err != nil {
		t.Fatal(err)
	}
	var datagrams, trains atomic.Uint64
	done := make(chan struct{})
	go func() {
		defer close(done)
		buffer := make([]byte, link.MaxTrain)
		for {
			train, err := sockets[1].Receive(buffer)
			if err != nil {
				return
			}
			trains.Add(1)
			datagrams.Add(uint64(train.Count()))
		}
	}()
	conn, err := net.Dial("udp", sockets[0].LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const sent = 30_000
	begin := time.Now()
	for i := range sent {
		if _, err := conn.Write(binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
			t.Fatal(err)
		}
	}
	ticker, late := time.NewTicker(time.Millisecond), time.After(10*time.Second)
	defer ticker.Stop()
	for waiting := true; waiting && datagrams.Load()+sockets[1].Lost() < sent; {
		select {
		case <-ticker.C:
		case <-late:
			waiting = false
		}
	}
	took := time.Since(begin)
	for _, s := range sockets {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	<-done
	if datagrams.Load()+sockets[1].Lost() != sent || sockets[0].Lost() != 0 {
		t.Errorf("of %d, %d were received and %d lost; others lost %d", sent, datagrams.Load(), sockets[1].Lost(), sockets[0].Lost())
	}
	if most := link.StrangerBurst + uint64(took.Seconds()*link.StrangerRate) + 1; trains.Load() > most {
		t.Errorf("%d trains in %v, the budget is %d", trains.Load(), took, most)
	}
}
