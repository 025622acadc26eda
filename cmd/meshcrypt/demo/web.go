package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Serve is the web server behind the mesh: it sends /down at a pace and takes
// /up, and tells on out what went through.
func Serve(ctx context.Context, listen string, out io.Writer) error {
	server := &http.Server{Addr: listen, Handler: handler(&events{w: out}), ReadHeaderTimeout: dialTimeout}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func handler(e *events) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "the web server behind the mesh") })
	mux.HandleFunc("GET /down", func(w http.ResponseWriter, r *http.Request) { sendDown(w, r, e) })
	mux.HandleFunc("PUT /up", func(_ http.ResponseWriter, r *http.Request) {
		into := newReceiver(wayUp, e, stopwatch())
		_, err := io.CopyBuffer(into, r.Body, make([]byte, chunkMax))
		into.end(err)
	})
	return mux
}

func sendDown(w http.ResponseWriter, r *http.Request, e *events) {
	total, err1 := strconv.ParseUint(r.URL.Query().Get("bytes"), 10, 63)
	rate, err2 := strconv.ParseUint(r.URL.Query().Get("rate"), 10, 63)
	if err := errors.Join(err1, err2); err != nil || rate == 0 {
		http.Error(w, "want bytes and rate", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatUint(total, 10))
	from := newSource(r.Context(), total, rate, stopwatch())
	if _, err := io.CopyBuffer(unbuffered{w}, from, make([]byte, chunkMax)); err != nil {
		e.tell(event{Kind: eventFailed, Way: wayDown, Bytes: from.sent, Reason: err.Error()})
		return
	}
	e.tell(from.end(wayDown))
}

// unbuffered hides ReadFrom, which would collect what the pace spreads out.
type unbuffered struct{ io.Writer }

// Transfer is the client's end: one download and one upload at the same time.
type Transfer struct {
	URL   string
	Bytes uint64 // each way
	Rate  uint64 // bit/s each way
	Proxy string // by which the web server is reached; "" is straight
}

// Run moves both and tells on out what went through. Each is one TCP
// connection from beginning to end; a reset fails it.
func (t Transfer) Run(ctx context.Context, out io.Writer) error {
	e := &events{w: out}
	if err := t.reach(ctx); err != nil {
		e.tell(event{Kind: eventFailed, Way: wayDown, Reason: err.Error()})
		return err
	}
	up := make(chan error, 1)
	go func() { up <- t.upload(ctx, e) }()
	down := t.download(ctx, e)
	return errors.Join(down, <-up)
}

// oneConnection is a client whose requests have a connection each. The user's
// own proxy has no part in it.
func (t Transfer) oneConnection() *http.Client {
	dialer := net.Dialer{Timeout: dialTimeout}
	transport := &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true, DisableCompression: true}
	if t.Proxy != "" {
		transport.Proxy = func(*http.Request) (*url.URL, error) { return url.Parse(t.Proxy) }
	}
	return &http.Client{Transport: transport}
}

// reach waits until the web server answers through the tunnel.
func (t Transfer) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	for {
		attempt, done := context.WithTimeout(ctx, 4*time.Second)
		request, err := http.NewRequestWithContext(attempt, http.MethodGet, t.URL+"/", nil)
		if err == nil {
			var response *http.Response
			if response, err = t.oneConnection().Do(request); err == nil {
				response.Body.Close()
				done()
				return nil
			}
		}
		done()
		if sleep(ctx, redialWithin) != nil {
			return fmt.Errorf("the web server does not answer through the tunnel: %w", err)
		}
	}
}

func (t Transfer) download(ctx context.Context, e *events) (err error) {
	into := newReceiver(wayDown, e, stopwatch())
	defer func() { into.end(err) }()
	from := fmt.Sprintf("%s/down?bytes=%d&rate=%d", t.URL, t.Bytes, t.Rate)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	response, err := t.oneConnection().Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the web server answered %s", response.Status)
	}
	_, err = io.CopyBuffer(into, response.Body, make([]byte, chunkMax))
	return err
}

func (t Transfer) upload(ctx context.Context, e *events) error {
	from := newSource(ctx, t.Bytes, t.Rate, stopwatch())
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, t.URL+"/up", io.NopCloser(from))
	if err != nil {
		return err
	}
	request.ContentLength = int64(t.Bytes)
	response, err := t.oneConnection().Do(request)
	if err != nil {
		e.tell(event{Kind: eventFailed, Way: wayUp, Bytes: from.sent, Reason: err.Error()})
		return err
	}
	response.Body.Close()
	e.tell(from.end(wayUp))
	return nil
}
