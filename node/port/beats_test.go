package port

import (
	"crypto/tls"
	"net/netip"
	"testing"
)

// TestBeatsAreSaid by who dials, and heard behind the hello that the port has read.
func TestBeatsAreSaid(t *testing.T) {
	p, ca := listenTCP(t), newAuthority(t)
	heard := make(chan bool, 1)
	p.Handle(ALPNFlows, ca.config(ALPNFlows), func(conn *tls.Conn, _ netip.AddrPort) {
		defer conn.Close()
		heard <- HearsBeats(conn)
	})
	for _, says := range []bool{true, false} {
		config := ca.config(ALPNFlows)
		config.InsecureSkipVerify = true // crypto/pki looks at keys, not at names
		if says {
			config = SayBeats(config)
		}
		conn, err := tls.Dial("tcp", p.Addr().String(), config)
		if err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != says {
			t.Errorf("said %t, heard %t", says, got)
		}
		conn.Close()
	}
}
