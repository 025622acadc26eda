package link

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// openAhead is open with a receiver that takes messages ahead of their time.
func openAhead(t testing.TB, addr string) *socket { return openAs(t, addr, Config{Ahead: true}) }

// TestAheadKeepsOrderAndPaths: what was taken ahead comes with its own sender,
// size, segment and class, in the order in which it arrived.
func TestAheadKeepsOrderAndPaths(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		x, y, b := open(t, addr), open(t, addr), openAhead(t, addr)
		const rounds = 200
		for i := range rounds {
			from, size, segment := x, 8+i%5*300, 0
			if i%3 == 1 {
				from = y
			}
			if i%7 == 6 { // a train among single ones
				size, segment = 20_000, 1000
			}
			datagram := pattern(size, max(segment, size))
			binary.BigEndian.PutUint64(datagram, uint64(i))
			path := to(b)
			path.TOS = uint8(i % 4)
			if err := from.Send(datagram, segment, path); err != nil {
				t.Fatal(err)
			}
		}
		buffer := make([]byte, MaxTrain)
		for i := range rounds {
			train, err := b.Receive(buffer)
			want := Train{Path: Path{Local: b.LocalAddr().Addr(), Remote: x.LocalAddr()}, Len: 8 + i%5*300, TOS: uint8(i % 4)}
			if i%3 == 1 {
				want.Path.Remote = y.LocalAddr()
			}
			want.Segment = want.Len
			if i%7 == 6 {
				want.Len, want.Segment = 20_000, 1000
			}
			content := pattern(want.Len, max(want.Segment, want.Len))
			if err != nil || train != want {
				t.Fatalf("%s: message %d is %+v, %v, want %+v", addr, i, train, err, want)
			}
			if binary.BigEndian.Uint64(buffer) != uint64(i) || want.Segment == want.Len && !bytes.Equal(buffer[8:want.Len], content[8:]) {
				t.Fatalf("%s: message %d has other bytes", addr, i)
			}
		}
	}
}

// TestMaxAhead: so many messages are taken by one call and no more, and only
// while small ones come (I10).
func TestMaxAhead(t *testing.T) {
	a, b := open(t, "127.0.0.1:0"), openAhead(t, "127.0.0.1:0")
	buffer := make([]byte, MaxTrain)
	most := func(size, count int) (most int) {
		for range count {
			if err := a.Send(make([]byte, size), 0, to(b)); err != nil {
				t.Fatal(err)
			}
		}
		for range count {
			if _, err := b.Receive(buffer); err != nil {
				t.Fatal(err)
			}
			most = max(most, b.in.got)
		}
		return most
	}
	if n := most(100, 100); n != 1+MaxAhead {
		t.Errorf("%d small datagrams were taken by one call, want %d", n, 1+MaxAhead)
	}
	most(2*singleMost, 1+MaxAhead) // asked for before they were seen
	if n := most(2*singleMost, 50); n != 1 {
		t.Errorf("%d large ones were taken by one call, want 1", n)
	}
}

// TestAheadShortBuffer: what a short buffer does not take is counted, also of
// a message that was taken ahead.
func TestAheadShortBuffer(t *testing.T) {
	a, b := open(t, "127.0.0.1:0"), openAhead(t, "127.0.0.1:0")
	for _, size := range []int{50, 50, 500} { // one call for the first, one for the others
		if err := a.Send(make([]byte, size), 0, to(b)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Send(pattern(1000, 90), 90, to(b)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	for _, want := range []int{50, 50, 90} {
		if train, err := b.Receive(buffer); err != nil || train.Len != want {
			t.Fatalf("received %+v, %v, want %d bytes", train, err, want)
		}
	}
	if b.Lost() != 1+11 {
		t.Errorf("Lost() = %d, want 12", b.Lost())
	}
}

// BenchmarkReceive is a burst of single datagrams, as a flood comes, and trains
// one by one, with and without taking messages ahead,
// each with its Send.
func BenchmarkReceive(b *testing.B) {
	openPlain := open
	for name, open := range map[string]func(testing.TB, string) *socket{"one": open, "ahead": openAhead} {
		for what, c := range map[string]struct{ size, segment, burst int }{
			"burst": {1452, 0, 64}, "lone": {1452, 0, 1}, "train": {45 * 1400, 1400, 1},
		} {
			b.Run(what+"/"+name, func(b *testing.B) {
				x, y := openPlain(b, "127.0.0.1:0"), open(b, "127.0.0.1:0")
				datagram, buffer := make([]byte, c.size), make([]byte, MaxTrain+1024)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if i%c.burst == 0 {
						for range c.burst {
							if err := x.Send(datagram, c.segment, to(y)); err != nil {
								b.Fatal(err)
							}
						}
					}
					if _, err := y.Receive(buffer); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
