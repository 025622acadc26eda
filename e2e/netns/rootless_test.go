//go:build e2e

package netns

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

const proxyAt = "127.0.0.1:1080"

// rootless is a client without any right, and the programs that use its proxy.
type rootless struct {
	*mesh
	dir string
}

// connectRootless starts the client as nobody and waits for its first answer.
func (m *mesh) connectRootless(more ...string) *rootless {
	m.Helper()
	if m.profile == "" {
		m.admit()
	}
	r := &rootless{mesh: m, dir: m.nobodys()}
	profile, secret := r.copy(m.profile), r.copy(m.passwordFile())
	m.client.process = m.client.Start(m.client.Name, append(m.client.environment(), "XDG_RUNTIME_DIR="+filepath.Join(r.dir, "run")),
		lab.Unprivileged(append([]string{r.copy(m.binary), "connect", "--profile", profile, "--user", user, "--password-file", secret}, more...)...)...)
	m.Until("the proxy answers", 20*time.Second, func() error {
		if p := m.client.process; !p.Running() {
			return fmt.Errorf("the client ended: %s", p.Tail(5))
		}
		if text, _ := os.ReadFile(m.client.process.Log); !strings.Contains(string(text), "Connected as") {
			return fmt.Errorf("not connected: %s", m.client.process.Tail(3))
		}
		return nil
	})
	return r
}

// nobodys is a directory that nobody owns; the way there is opened, and the
// record of nonces, which every process of the mesh writes.
func (m *mesh) nobodys() string {
	m.Helper()
	dir := filepath.Dir(m.File("nobody", "run", "x"))
	record, err := os.OpenFile(m.oracleFile, os.O_CREATE|os.O_RDWR, 0o666)
	if err == nil {
		err = errors.Join(record.Chmod(0o666), record.Close(),
			os.Chmod(m.Dir, 0o711), os.Chmod(filepath.Dir(m.Dir), 0o711), os.Chmod(filepath.Dir(dir), 0o711))
	}
	if err != nil {
		m.Fatalf("%v", err)
	}
	m.Give(filepath.Dir(dir), dir)
	return filepath.Dir(dir)
}

func (r *rootless) copy(path string) string {
	r.Helper()
	content, err := os.ReadFile(path)
	to := filepath.Join(r.dir, filepath.Base(path))
	if err == nil {
		err = os.WriteFile(to, content, 0o700)
	}
	if err != nil {
		r.Fatalf("%v", err)
	}
	r.Give(to)
	return to
}

// curl runs curl as nobody on the client's host; its output goes to a hash.
func (r *rootless) curl(proxy string, more ...string) (sum string, size int64, err error) {
	args := append([]string{"curl", "--silent", "--show-error", "--fail", "--max-time", "120", "--proxy", proxy}, more...)
	cmd := r.client.Command(nil, lab.Unprivileged(args...)...)
	hash := sha256.New()
	var stderr strings.Builder
	counter := &counting{w: hash}
	cmd.Stdout, cmd.Stderr = counter, &stderr
	if err := cmd.Run(); err != nil {
		return "", counter.n, fmt.Errorf("curl by %s: %w: %s", proxy, err, strings.TrimSpace(stderr.String()))
	}
	return hex.EncodeToString(hash.Sum(nil)), counter.n, nil
}

type counting struct {
	w io.Writer
	n int64
}

func (c *counting) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return c.w.Write(b)
}

// web serves random bytes at the destination, and gives their hash.
func (m *mesh) web(bytes int64) (url, sum string) {
	m.Helper()
	seed := [32]byte{1}
	hash := sha256.New()
	io.CopyN(hash, rand.NewChaCha8(seed), bytes)
	listener := m.listenAtDestination("80")
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPut {
			up := sha256.New()
			io.Copy(up, req.Body)
			fmt.Fprintf(w, "%x", up.Sum(nil))
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(bytes))
		io.CopyN(w, rand.NewChaCha8(seed), bytes)
	})}
	go server.Serve(listener)
	m.Cleanup(func() { server.Close() })
	return "http://" + net.JoinHostPort(destination, "80") + "/", hex.EncodeToString(hash.Sum(nil))
}

func (m *mesh) listenAtDestination(port string) (listener net.Listener) {
	m.Helper()
	if err := m.dest.Do(func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(destination, port))
		return err
	}); err != nil {
		m.Fatalf("%v", err)
	}
	return listener
}

// TestRootless: a client without any right carries 200 MB each by SOCKS5, by
// CONNECT and by a plain proxied GET, hashes equal, and an upload.
func TestRootless(t *testing.T) {
	m := newMesh(t, 2)
	m.watch("client", "n1")
	m.up()
	r := m.connectRootless()
	const size = 200_000_000
	url, want := m.web(size)
	for _, way := range []struct {
		name  string
		proxy string
		more  []string
	}{
		{"SOCKS5", "socks5h://" + proxyAt, nil},
		{"CONNECT", "http://" + proxyAt, []string{"--proxytunnel"}},
		{"plain GET", "http://" + proxyAt, nil},
	} {
		begin := time.Now()
		sum, n, err := r.curl(way.proxy, append(way.more, url)...)
		if err != nil || sum != want {
			t.Errorf("%s: %d bytes, hash %.16s, want %.16s: %v", way.name, n, sum, want, err)
		}
		took := time.Since(begin)
		t.Logf("%s: %d bytes in %v, %.0f Mbit/s, hash %.16s", way.name, n, took.Round(time.Millisecond), float64(n)*8/1e6/took.Seconds(), sum)
	}
	r.refuses()
	r.leaves()
}

// refuses: what the mesh does not offer is not reached another way, though the
// host itself could.
func (r *rootless) refuses() {
	r.Helper()
	for proxy, word := range map[string]string{
		"socks5h://" + proxyAt: "(2)", // not allowed by ruleset
		"http://" + proxyAt:    "403",
	} {
		if _, n, err := r.curl(proxy, "http://192.0.2.1:6484/"); err == nil || n > 0 || !strings.Contains(err.Error(), word) {
			r.t.Errorf("outside the mesh by %s: %d bytes, %v", proxy, n, err)
		}
	}
}

// leaves: disconnect, as nobody, ends the client cleanly.
func (r *rootless) leaves() {
	r.Helper()
	out := r.client.Try([]string{"XDG_RUNTIME_DIR=" + filepath.Join(r.dir, "run")},
		lab.Unprivileged(filepath.Join(r.dir, "meshcrypt"), "disconnect")...)
	code, ended := r.client.process.Wait(5 * time.Second)
	if out.Code != 0 || !ended || code != 0 {
		r.t.Errorf("disconnect: exit %d, %s; the client: %d, %v", out.Code, out.Stderr, code, ended)
	}
}
