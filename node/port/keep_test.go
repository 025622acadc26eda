package port

import (
	"crypto/tls"
	"net/netip"
	"testing"
	"testing/synctest"
)

// TestKeep: what a handler keeps is the port's until it is over, though the handler has
// returned: it counts, and the end of the port closes it and waits for its end.
func TestKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		var kept *tls.Conn
		var over func()
		p.Handle(ALPNClient, ca.config(ALPNClient), func(conn *tls.Conn, _ netip.AddrPort) {
			kept, over = conn, Keep(conn)
		})
		conn := tls.Client(dial(p, stranger), ca.config(ALPNClient))
		go conn.Handshake()
		synctest.Wait()
		if over == nil || len(p.live) != 1 {
			t.Fatalf("%d connections are the port's, want one that is kept", len(p.live))
		}
		closed := false
		go func() { p.Close(); closed = true }()
		if _, err := kept.Read(make([]byte, 1)); err == nil {
			t.Error("it goes on after the port's end")
		}
		synctest.Wait()
		if closed {
			t.Error("the port did not wait for it")
		}
		over()
		synctest.Wait()
		if !closed || len(p.live) != 0 {
			t.Errorf("closed %t, %d connections are left", closed, len(p.live))
		}
	})
}
