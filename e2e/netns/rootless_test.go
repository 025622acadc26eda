//go:build e2e

package netns

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
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
	t.Parallel()
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
	code, ended := r.client.process.Wait(15 * time.Second)
	if out.Code != 0 || !ended || code != 0 {
		r.t.Errorf("disconnect: exit %d, %s; the client: %d, %v", out.Code, out.Stderr, code, ended)
	}
}

// zone is a DNS server at the destination that knows one name, by UDP, with
// its TCP port closed.
func (m *mesh) zone(name string) {
	m.Helper()
	var socket net.PacketConn
	if err := m.dest.Do(func() (err error) {
		socket, err = net.ListenPacket("udp", net.JoinHostPort(destination, "53"))
		return err
	}); err != nil {
		m.Fatalf("%v", err)
	}
	m.Cleanup(func() { socket.Close() })
	go func() {
		b := make([]byte, 1500)
		for {
			n, from, err := socket.ReadFrom(b)
			if err != nil {
				return
			}
			if answer := nameAnswer(b[:n], name); answer != nil {
				socket.WriteTo(answer, from)
			}
		}
	}()
}

// nameAnswer answers one query; nil is silence.
func nameAnswer(query []byte, name string) []byte {
	var d dnsmessage.Message
	if d.Unpack(query) != nil || len(d.Questions) != 1 {
		return nil
	}
	d.Response, d.Additionals = true, nil
	switch q := d.Questions[0]; {
	case q.Name.String() != name+".":
		d.RCode = dnsmessage.RCodeNameError
	case q.Type == dnsmessage.TypeA:
		d.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 1},
			Body:   &dnsmessage.AResource{A: netip.MustParseAddr(destination).As4()},
		}}
	}
	answer, err := d.Pack()
	if err != nil {
		return nil
	}
	return answer
}

// TestRootlessNames: the mesh pushes a DNS server inside and a search domain;
// the proxy resolves by it, and a program asks it itself by UDP ASSOCIATE.
func TestRootlessNames(t *testing.T) {
	t.Parallel()
	const name = "web.corp.example"
	m := newMesh(t, 1)
	m.watch("client")
	m.zone(name)
	m.nodes[0].start(m.initArgs("--run", "--dns", destination, "--search", "corp.example")...)
	m.ready(1)
	r := m.connectRootless()
	_, want := m.web(1_000_000)
	begin := time.Now()
	for _, proxy := range []string{"socks5h://" + proxyAt, "http://" + proxyAt} {
		for _, host := range []string{name, "web"} {
			if sum, n, err := r.curl(proxy, "http://"+host+"/"); err != nil || sum != want {
				t.Errorf("%s by %s: %d bytes, %v", host, proxy, n, err)
			}
			t.Logf("%s by %s after %v", host, proxy, time.Since(begin).Round(time.Millisecond))
		}
		if _, _, err := r.curl(proxy, "http://nowhere.corp.example/"); err == nil {
			t.Errorf("a name that does not exist was reached by %s", proxy)
		}
	}
	if err := r.askByUDP(name); err != nil {
		t.Error(err)
	}
}

// askByUDP sends a DNS query by a SOCKS5 association, as a program would.
func (r *rootless) askByUDP(name string) error {
	query := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName(name + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	packed, err := query.Pack()
	if err != nil {
		return err
	}
	return r.client.Do(func() error {
		control, err := net.Dial("tcp", proxyAt)
		if err != nil {
			return err
		}
		defer control.Close()
		control.SetDeadline(time.Now().Add(10 * time.Second))
		control.Write([]byte{5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0})
		answer := make([]byte, 2+10)
		if _, err := io.ReadFull(control, answer); err != nil || answer[3] != 0 {
			return fmt.Errorf("associate: % x, %w", answer, err)
		}
		at := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.AddrFrom4([4]byte(answer[6:10])), binary.BigEndian.Uint16(answer[10:])))
		socket, err := net.DialUDP("udp", nil, at)
		if err != nil {
			return err
		}
		defer socket.Close()
		socket.SetDeadline(time.Now().Add(10 * time.Second))
		head := append([]byte{0, 0, 0, 1}, netip.MustParseAddr(destination).AsSlice()...)
		socket.Write(append(append(head, 0, 53), packed...))
		b := make([]byte, 1500)
		n, err := socket.Read(b)
		if err != nil || n < 10 {
			return fmt.Errorf("by UDP: %d bytes, %w", n, err)
		}
		var said dnsmessage.Message
		if err := said.Unpack(b[10:n]); err != nil || said.ID != 7 || len(said.Answers) != 1 {
			return fmt.Errorf("by UDP: %v, %w", said, err)
		}
		return nil
	})
}

// TestRootlessKill: an agent dies by kill -9 in the middle of a sprayed
// download by SOCKS5: the connection stays and the hash is right.
func TestRootlessKill(t *testing.T) {
	m := newMesh(t, 4)
	m.watch("client")
	m.up()
	r := m.connectRootless("--slice-mode", "burst")
	m.slices(3)
	const size = 400_000_000
	url, want := m.web(size)
	type result struct {
		sum string
		n   int64
		err error
	}
	ended := make(chan result, 1)
	go func() {
		sum, n, err := r.curl("socks5h://"+proxyAt, "--limit-rate", "80M", url)
		ended <- result{sum, n, err}
	}()
	m.Until("the download is under way", 10*time.Second, func() error {
		if s, err := m.session(); err != nil || carried(s) < 40<<20 {
			return fmt.Errorf("%d bytes: %w", carried(s), err)
		}
		return nil
	})
	use, err := m.rolesInUse()
	if err != nil {
		t.Fatal(err)
	}
	for _, slice := range use.session.Slices {
		if slice.State == "up" && slice.Agent != use.gateway && slice.Agent != use.session.Egress {
			m.node(slice.Agent).process.Kill()
			t.Logf("killed %s of %v", slice.Agent, use)
			break
		}
	}
	got := <-ended
	if got.err != nil || got.sum != want {
		t.Errorf("%d bytes of %d, hash %.16s, want %.16s: %v", got.n, size, got.sum, want, got.err)
	}
	if s, err := m.session(); err != nil || s.ID != use.session.ID {
		t.Errorf("the session did not survive: %v, %v", s.ID, err)
	}
}

// carried is what the agents sent to the client.
func carried(s control.Session) (bytes uint64) {
	for _, slice := range s.Slices {
		bytes += slice.Out
	}
	return bytes
}
