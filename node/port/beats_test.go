package port

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/loop"
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

// TestSlowAnswerIsAwaited, for the other end beats meanwhile, and who is at the other
// end is known through the beats as without; an end that is gone is not awaited.
func TestSlowAnswerIsAwaited(t *testing.T) {
	t.Parallel()
	p, ca := listenTCP(t), newAuthority(t)
	config := ca.config(ALPNOperator)
	config.InsecureSkipVerify = true
	listener := p.Listener(ALPNOperator, config)
	gone := make(chan struct{})
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-time.After(loop.NodeSilence + loop.NodeEvery)
		io.WriteString(w, r.TLS.NegotiatedProtocol)
	})}
	go func() { defer close(gone); server.Serve(listener) }()
	var last net.Conn
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		conn, err := tls.Dial("tcp", p.Addr().String(), SayBeats(config))
		if err != nil {
			return nil, err
		}
		last = Beating(conn)
		return last, nil
	}}}
	answer, err := client.Get("http://node/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if said, err := io.ReadAll(answer.Body); string(said) != ALPNOperator {
		t.Errorf("answered %q, %v", said, err)
	}
	last.Close()
	server.Close()
	<-gone
}
