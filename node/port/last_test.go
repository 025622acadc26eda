package port

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestLastDescriptorsAreForNodes: what was accepted with a descriptor that was set aside is
// a node's, or gone at once; and from a node's address only what nodes say (I10).
func TestLastDescriptorsAreForNodes(t *testing.T) {
	ca := newAuthority(t)
	p := newTestPort(t)
	member := netip.MustParseAddrPort("192.0.2.1:40000")
	p.Know([]netip.Addr{member.Addr()}, nil)
	served := make(chan string, 1)
	for _, alpn := range []string{ALPNRaft, ALPNDatagram} {
		p.Handle(alpn, ca.config(alpn), func(conn *tls.Conn, _ netip.AddrPort) { served <- alpn; conn.Close() })
	}
	p.Relay([]string{ALPNClient}, func(conn net.Conn, _ netip.AddrPort, alpn string) { served <- alpn; conn.Close() })
	for _, c := range []struct {
		from netip.AddrPort
		alpn string
		in   bool
	}{
		{member, ALPNRaft, true}, {member, ALPNClient, false}, {member, ALPNDatagram, false}, {stranger, ALPNRaft, false},
	} {
		before := p.Stats().Dropped[ReasonFiles]
		ours, theirs := net.Pipe()
		p.running.Go(func() { p.handle(theirs, c.from, introduction{last: true}) })
		err := tls.Client(ours, ca.config(c.alpn)).Handshake()
		if dropped := p.Stats().Dropped[ReasonFiles] - before; (err == nil) != c.in || (dropped == 0) != c.in {
			t.Errorf("%v with %s: %v, %d turned away", c.from, c.alpn, err, dropped)
		}
		if c.in && <-served != c.alpn {
			t.Errorf("%s was not served", c.alpn)
		}
		ours.Close()
	}
}

// exhausted is a listener whose process has no descriptor left.
type exhausted struct{ fakeListener }

func (l *exhausted) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
		return nil, syscall.EMFILE
	}
}

// TestCannotAcceptIsSaidWithinBounds: not 20 times a second for hours (I10).
func TestCannotAcceptIsSaidWithinBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := On(&exhausted{fakeListener{done: make(chan struct{})}}, nil, slog.New(slog.NewTextHandler(&log, nil)))
		<-time.After(10 * time.Minute)
		p.Close()
		lines := strings.Count(log.String(), "port cannot accept")
		if lines < freeLines || lines > freeLines+11 || !strings.Contains(log.String(), "times_not_said=") {
			t.Errorf("%d lines in ten minutes", lines)
		}
	})
}
