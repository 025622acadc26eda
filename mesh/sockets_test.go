package mesh

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
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

// silent is a TCP address that does not answer, as that of a host without power: its queue of
// connections is full.
func silent(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	err = errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0))
	name, nameErr := syscall.Getsockname(fd)
	if err := errors.Join(err, nameErr); err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*syscall.SockaddrInet4).Port))
	for {
		conn, err := net.DialTimeout("tcp", at.String(), 100*time.Millisecond)
		if err != nil {
			return at
		}
		t.Cleanup(func() { conn.Close() })
	}
}

// mute is one that takes a connection and says nothing, as that of a process that stands still.
func mute(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// TestJoinIsCutShort: whoever ends waits neither for a host without power nor for one that
// stands still.
func TestJoinIsCutShort(t *testing.T) {
	for name, at := range map[string]netip.AddrPort{"without power": silent(t), "standing still": mute(t)} {
		m, err := Open(Config{
			Name: identity.PublicKey{1}.ID(), Cluster: identity.ClusterID{1}, Key: make([]byte, KeySize),
			Bind:  netip.MustParseAddrPort("127.0.0.1:0"),
			Known: func(identity.NodeID) bool { return true }, Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		began := time.Now()
		if err := m.Join(ctx, []netip.AddrPort{at}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > streamTimeout/2 {
			t.Errorf("%s: the join ended after %v", name, took)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}
