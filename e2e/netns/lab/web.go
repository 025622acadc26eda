package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
)

// Web is an HTTP server on a host: GET /N answers with N bytes that the number
// determines, PUT answers with the SHA-256 of what it was given.
type Web struct {
	// Port is the TCP port it listens on.
	Port int

	server http.Server
}

// ServeWeb starts a server on all addresses of the host; it ends with the test.
func (s *Space) ServeWeb() *Web {
	s.world.Helper()
	var listener net.Listener
	err := s.Do(func() (err error) {
		listener, err = net.Listen("tcp", ":0")
		return err
	})
	if err != nil {
		s.world.Fatalf("lab: web server on %s: %v", s.Name, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{bytes}", serveBytes)
	mux.HandleFunc("PUT /", answerHash)
	w := &Web{Port: listener.Addr().(*net.TCPAddr).Port, server: http.Server{Handler: mux}}
	go func() {
		if err := w.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.world.Logf("lab: web server on %s: %v", s.Name, err)
		}
	}()
	s.world.Cleanup(func() { _ = w.server.Close() }) // the test is over
	return w
}

// Content is what GET /n answers with.
func Content(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}), n)
}

// ContentHash is the SHA-256 of what GET /n answers with.
func ContentHash(n int64) string {
	hash := sha256.New()
	// Neither end can fail.
	_, _ = io.Copy(hash, Content(n))
	return hex.EncodeToString(hash.Sum(nil))
}

func serveBytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("bytes"), 10, 64)
	if err != nil || n < 0 {
		http.Error(w, "not a number of bytes", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	// The client sees a body that ends early.
	_, _ = io.Copy(w, Content(n))
}

func answerHash(w http.ResponseWriter, r *http.Request) {
	hash := sha256.New()
	if _, err := io.Copy(hash, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprint(w, hex.EncodeToString(hash.Sum(nil)))
}
