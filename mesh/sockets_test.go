package mesh

import (
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
)

// TestDatagramTakesItsSize: what a node hears at rest is most of what it makes on its heap.
func TestDatagramTakesItsSize(t *testing.T) {
	const datagrams, most = 200, 1024
	s, err := listen(netip.MustParseAddrPort("127.0.0.1:0"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown()
	to := s.datagrams.LocalAddr().String()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range datagrams {
		if _, err := s.WriteTo([]byte{byte(i), 1, 2}, to); err != nil {
			t.Fatal(err)
		}
		if p := <-s.PacketCh(); len(p.Buf) != 3 || p.Buf[0] != byte(i) || p.From.String() != to {
			t.Fatalf("datagram %d came as %x of %s", i, p.Buf, p.From)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / datagrams; each > most {
		t.Errorf("%d bytes are made for a datagram of 3, at most %d", each, most)
	}
}

// TestSocketsEnd though a datagram and a stream wait that nobody takes.
func TestSocketsEnd(t *testing.T) {
	s, err := listen(netip.MustParseAddrPort("127.0.0.1:0"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	to := s.datagrams.LocalAddr().String()
	conn, err := s.DialTimeout(to, streamTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := s.WriteTo([]byte{1}, to); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
	}
	if _, err := s.WriteTo([]byte{1}, to); err == nil {
		t.Error("the port is open after the end")
	}
}
