package port

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
)

func TestListenerServesHTTP(t *testing.T) {
	p := listenTCP(t)
	ca := newAuthority(t)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.TLS.NegotiatedProtocol)
	})}
	defer server.Close()
	go server.Serve(p.Listener(ALPNOperator, ca.config(ALPNOperator)))
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(context.Context, string, string) (net.Conn, error) {
			return tls.Dial("tcp", p.Addr().String(), ca.config(ALPNOperator))
		},
	}}
	answer, err := client.Get("https://node/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); err != nil || string(body) != ALPNOperator {
		t.Errorf("served %q, %v", body, err)
	}
}

func TestListenerBacklog(t *testing.T) { // I10
	synctest.Test(t, func(t *testing.T) {
		p, ca := newTestPort(t), newAuthority(t)
		conf := ca.config(ALPNRaft)
		l := p.Listener(ALPNRaft, conf)
		for i := range MaxBacklog + 1 {
			if err := tls.Client(dial(p, source(i)), conf).Handshake(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		s := p.Stats()
		if s.Handled != MaxBacklog || s.Dropped[ReasonBacklog] != 1 {
			t.Errorf("handled %d, dropped %v", s.Handled, s.Dropped)
		}
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
		if err := tls.Client(dial(p, stranger), conf).Handshake(); !errors.Is(err, io.EOF) {
			t.Errorf("handshake after Close: %v", err)
		}
		l.Close()
	})
}
