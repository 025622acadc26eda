package port

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

func TestSourceBucket(t *testing.T) { // I10
	var s sources
	now := time.Unix(0, 0)
	host := netip.MustParseAddr("192.0.2.1")
	for i := range SourceBurst {
		if !s.take(host, now) {
			t.Fatalf("refused connection %d of a burst of %d", i+1, SourceBurst)
		}
	}
	if s.take(host, now) {
		t.Error("one more than the burst was allowed")
	}
	if !s.take(netip.MustParseAddr("192.0.2.2"), now) {
		t.Error("a neighbour pays for it")
	}
	if now = now.Add(time.Second / SourceRate); !s.take(host, now) || s.take(host, now) {
		t.Errorf("want exactly one token after 1/%d s", SourceRate)
	}
	s.refund(host, now)
	if !s.take(host, now) {
		t.Error("a refunded token is not there")
	}
}

func TestSourceIsIPv6Prefix(t *testing.T) {
	var s sources
	now := time.Unix(0, 0)
	a, b := netip.MustParseAddr("2001:db8:0:1::1"), netip.MustParseAddr("2001:db8:0:1:ffff::2")
	for range SourceBurst {
		s.take(a, now)
	}
	if s.take(b, now) {
		t.Error("two hosts of one /64 have a bucket each")
	}
	if !s.take(netip.MustParseAddr("2001:db8:0:2::1"), now) {
		t.Error("another /64 shares the bucket")
	}
}

func TestSourcesBounded(t *testing.T) { // I10
	var s sources
	now := time.Unix(0, 0)
	loud := netip.MustParseAddr("192.0.2.1")
	for range SourceBurst {
		s.take(loud, now)
	}
	for i := range MaxSources { // a flood turns the young generation old
		s.take(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if s.take(loud, now) {
		t.Error("one flood of other sources refilled the bucket")
	}
	for i := range 4 * MaxSources {
		s.take(netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)}), now)
	}
	if n := len(s.young) + len(s.old); n > 2*MaxSources {
		t.Errorf("%d sources remembered, limit %d", n, 2*MaxSources)
	}
}

// TestLimitSource: strangers run dry, a node that proves itself does not.
func TestLimitSource(t *testing.T) { // I10
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		nodes := ca.config(ALPNStream)
		nodes.ClientAuth = tls.RequireAndVerifyClientCert
		p.Handle(ALPNStream, nodes, echo)
		wantEcho(t, tls.Client(dial(p, stranger), nodes), "hello")
		for range SourceBurst {
			conn := dial(p, stranger)
			conn.Write([]byte("x"))
			conn.Close()
		}
		synctest.Wait()
		if n := p.Stats().Dropped[ReasonLimited]; n != 0 {
			t.Fatalf("%d dropped: the proven connection's token did not come back", n)
		}
		dial(p, stranger)
		synctest.Wait()
		if n := p.Stats().Dropped[ReasonLimited]; n != 1 {
			t.Errorf("%d dropped as limited, want 1", n)
		}
	})
}
