package proxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// browser is a client that uses the proxy for everything.
func browser(t *testing.T, address string, user *url.Userinfo) *http.Client {
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: address, User: user})}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func TestPlainHTTP(t *testing.T) {
	var seen http.Header
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = r.Header
		io.Copy(w, r.Body)
	}))
	t.Cleanup(web.Close)
	_, address := start(t, nil)
	b := browser(t, address, nil)
	answer, err := b.Post(web.URL+"/path", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || string(body) != "hello" || answer.StatusCode != 200 {
		t.Errorf("%d %q, %v", answer.StatusCode, body, err)
	}
	for _, header := range []string{"X-Forwarded-For", "Via", "Proxy-Connection"} {
		if seen.Get(header) != "" {
			t.Errorf("the server saw %s: %s", header, seen.Get(header))
		}
	}
	answer, err = b.Get("http://192.0.2.1/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ = io.ReadAll(answer.Body)
	answer.Body.Close()
	if answer.StatusCode != http.StatusForbidden || !strings.Contains(string(body), ErrOutside.Error()) {
		t.Errorf("outside: %d %q", answer.StatusCode, body)
	}
}

// TestCONNECT: TLS goes through untouched.
func TestCONNECT(t *testing.T) {
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "inside") }))
	t.Cleanup(web.Close)
	_, address := start(t, &Credentials{"ann", "secret"})
	b := browser(t, address, url.UserPassword("ann", "secret"))
	b.Transport.(*http.Transport).TLSClientConfig = web.Client().Transport.(*http.Transport).TLSClientConfig
	answer, err := b.Get(web.URL)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil || string(body) != "inside" {
		t.Errorf("%q, %v", body, err)
	}
	b.CloseIdleConnections()
}

func TestWebRefusals(t *testing.T) {
	_, open := start(t, nil)
	_, locked := start(t, &Credentials{"ann", "secret"})
	for _, c := range []struct{ address, request, status string }{
		{open, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"},
		{open, "GET https://web.example/ HTTP/1.1\r\nHost: web.example\r\n\r\n", "400"},
		{open, "CONNECT web.example HTTP/1.1\r\nHost: web.example\r\n\r\n", "400"},
		{open, "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n", "403"},
		{open, "CONNECT nowhere.example:443 HTTP/1.1\r\nHost: nowhere.example:443\r\n\r\n", "502"},
		{open, "CONNECT nobody.example:443 HTTP/1.1\r\nHost: nobody.example:443\r\n\r\n", "502"},
		{locked, "CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n", "407"},
		{locked, "GET http://web.example/ HTTP/1.1\r\nHost: web.example\r\nProxy-Authorization: Basic YW5uOndyb25n\r\n\r\n", "407"},
	} {
		conn := dialProxy(t, c.address)
		io.WriteString(conn, c.request)
		head := make([]byte, 12)
		if _, err := io.ReadFull(conn, head); err != nil || string(head) != "HTTP/1.1 "+c.status {
			t.Errorf("%.30q: %q, %v, want %s", c.request, head, err, c.status)
		}
	}
}
