package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"time"

	"github.com/meshcrypt/meshcrypt/node/splice"
)

// inbox is a net.Listener of connections that were accepted elsewhere.
type inbox struct {
	addr    net.Addr
	waiting chan net.Conn
	done    <-chan struct{}
}

func (i *inbox) put(c net.Conn) {
	select {
	case i.waiting <- c:
	case <-i.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (i *inbox) Accept() (net.Conn, error) {
	select {
	case c := <-i.waiting:
		return c, nil
	case <-i.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; the server's own end closes it.
func (i *inbox) Close() error { return nil }

// Addr implements net.Listener.
func (i *inbox) Addr() net.Addr { return i.addr }

func (s *Server) startWeb() {
	s.inbox = &inbox{addr: s.config.Listener.Addr(), waiting: make(chan net.Conn), done: s.ctx.Done()}
	s.onward = &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			to, err := parseDestination(address)
			if err != nil {
				return nil, err
			}
			return s.dial(ctx, to)
		},
		MaxIdleConns: MaxIdleOnward, IdleConnTimeout: OnwardIdle, DisableCompression: true,
	}
	plain := &httputil.ReverseProxy{
		// The request goes out as it came, without what is for us.
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL, r.Out.Host = r.In.URL, r.In.Host },
		Transport:     s.onward,
		FlushInterval: -1, // as it comes
		BufferPool:    buffers{},
		ErrorLog:      slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
		ErrorHandler:  func(w http.ResponseWriter, r *http.Request, err error) { s.refuse(w, r, err) },
	}
	s.web = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveHTTP(w, r, plain) }),
		ReadHeaderTimeout: HandshakeTimeout, IdleTimeout: splice.HalfIdleLimit, MaxHeaderBytes: MaxHeader,
		BaseContext: func(net.Listener) context.Context { return s.ctx },
		ConnState:   s.webConn,
		ErrorLog:    slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
	s.group.Go(func() { _ = s.web.Serve(s.inbox) }) // ends with the inbox
}

// webConn lets Close wait for what the web server serves.
func (s *Server) webConn(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.group.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.group.Done()
	}
}

func (s *Server) closeWeb() {
	_ = s.web.Close() // closes connections, which cannot fail to be closed
	s.onward.CloseIdleConnections()
}

func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request, plain http.Handler) {
	switch {
	case !s.allows(r):
		w.Header().Set("Proxy-Authenticate", `Basic realm="meshcrypt"`)
		http.Error(w, "This proxy wants a user and a password.", http.StatusProxyAuthRequired)
	case r.Method == http.MethodConnect:
		s.serveConnect(w, r)
	case r.URL.Scheme == "http" && r.URL.Host != "":
		plain.ServeHTTP(w, r)
	default:
		http.Error(w, "This is a proxy into a meshcrypt tunnel: it takes CONNECT and http:// requests.", http.StatusBadRequest)
	}
}

// serveConnect turns the connection into a pipe.
func (s *Server) serveConnect(w http.ResponseWriter, r *http.Request) {
	to, err := parseDestination(r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	onward, err := s.dial(r.Context(), to)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.group.Add(1) // as a pipe; as a web connection it ends here
	defer s.group.Done()
	local, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		onward.Close()
		return
	}
	local.SetDeadline(time.Time{})
	if _, err := local.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n")); err != nil {
		onward.Close()
		local.Close()
		return
	}
	if early, err := buffered.Reader.Peek(buffered.Reader.Buffered()); err == nil && len(early) > 0 {
		_, _ = onward.Write(early) // a failure shows as it is spliced
	}
	splice.Both(local, onward)
}

// refuse says why there is no connection.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	s.config.Log.Info("proxy: no connection", "to", r.Host, "error", err)
	http.Error(w, fmt.Sprintf("No connection to %s through the mesh: %v", r.Host, err), causeOf(err).http)
}

// buffers lends what splices copy through to the plain proxy.
type buffers struct{}

func (buffers) Get() []byte  { return *splice.Buffers.Get().(*[]byte) }
func (buffers) Put(b []byte) { splice.Buffers.Put(&b) }
