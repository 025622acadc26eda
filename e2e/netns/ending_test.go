//go:build e2e

package netns

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// ends is a world whose client's host never stops to send, with a watch at the
// router for what of it is in clear.
type ends struct {
	*mesh
	seen *lab.Watch
}

// unheard is how long a closed host is watched, and opened how soon an open one
// must be seen: many times the pause of the sender.
const (
	sendEvery = 10 * time.Millisecond
	unheard   = time.Second
	opened    = 10 * time.Second
)

func newEnds(t *testing.T) *ends {
	m := newMesh(t, 1)
	m.found()
	m.admit()
	e := &ends{m, m.wan.Watch("client", []byte(lab.Canary), portsOn("client")...)}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for ticker := time.NewTicker(sendEvery); ; {
			select {
			case <-stop:
				ticker.Stop()
				return
			case <-ticker.C:
				// While the host is closed there is no way at all, which is an error.
				_ = m.client.Do(sendClear)
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		if _, err := e.seen.End(); err != nil {
			t.Errorf("the watch: %v", err)
		}
	})
	return e
}

// sendClear is one datagram of a program that knows nothing of a tunnel.
func sendClear() error {
	conn, err := net.Dial("udp", destination+":9")
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Write([]byte(lab.Canary))
	return err
}

// closed: nothing of what is sent is in clear, and status tells why.
func (e *ends) closed(after string, why ...string) {
	e.Helper()
	e.seen.Reset()
	time.Sleep(unheard)
	if seen := e.seen.Seen(); len(seen.Canaries) > 0 {
		e.t.Errorf("after %s: in clear at the router: %d and more, %s", after, len(seen.Canaries), seen.Canaries[0])
	}
	r := e.status()
	for _, words := range append(why, "Health: CLOSED", "because", ": meshcrypt disconnect", "10.20.0.0/24") {
		if r.Code != control.CodeDegraded || !strings.Contains(r.Out, words) {
			e.t.Errorf("after %s: status has no %q: exit %d, %s%s", after, words, r.Code, r.Out, r.Stderr)
		}
	}
}

// open: the host has its own routes again, so what is sent is seen.
func (e *ends) open(after string) {
	e.Helper()
	e.seen.Reset()
	e.Until("packets in clear after "+after, opened, func() error {
		if seen := e.seen.Seen(); len(seen.Canaries) == 0 {
			return fmt.Errorf("nothing at the router: %s", e.status().Out)
		}
		return nil
	})
	if r := e.status(); r.Code != control.CodeUnreachable {
		e.t.Errorf("status after %s: exit %d, %s%s", after, r.Code, r.Out, r.Stderr)
	}
}

func (e *ends) status() lab.Result {
	return e.client.try("status", "--client", "--run-dir", e.runDir())
}
func (e *ends) runDir() string { return e.File("client", "run") }

// connect does not wait for room, as others do: on which agent is no matter here.
func (e *ends) connect() {
	e.Helper()
	e.connectBy("--profile", e.profile, "--password-file", e.passwordFile())
}

func (e *ends) connectBy(how ...string) {
	e.Helper()
	e.client.start(append([]string{"connect", "--run-dir", e.runDir()}, how...)...)
	e.Until("a connection through the tunnel", 20*time.Second, e.reach)
}

func (e *ends) disconnect() {
	e.client.must("disconnect", "--run-dir", e.runDir())
}

// mine is the client's own session; those of killed ones last for a while.
func (e *ends) mine() string {
	e.Helper()
	s, err := ask[control.ClientStatus](e.client, "status", "--client", "--run-dir", e.runDir())
	if err != nil || s.Session == "" {
		e.Fatalf("client status: %+v, %v", s, err)
	}
	return s.Session
}

func (e *ends) kick(session string) { e.nodes[0].must("sessions", "kick", session) }

// ended waits for the client's end, which must have that code and say those words.
func (e *ends) ended(after string, code int, words ...string) {
	e.Helper()
	got, gone := e.client.process.Wait(opened)
	text, err := os.ReadFile(e.client.process.Log)
	if !gone || got != code || err != nil {
		e.t.Errorf("after %s: ended %v, exit %d, want %d, %v", after, gone, got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(string(text), w) {
			e.t.Errorf("after %s connect does not say %q: %s", after, w, e.client.process.Tail(6))
		}
	}
}

const blockedStill = "stays blocked"

// TestUnaskedEndsAreClosed: an end that the user did not ask for leaves closed
// what was meant for the tunnel, and a program that keeps sending gets nothing
// out. Its reason is said, disconnect opens without a daemon, and a connect takes
// over.
func TestUnaskedEndsAreClosed(t *testing.T) {
	t.Parallel()
	e := newEnds(t)
	n := e.nodes[0]
	e.open("nothing yet")

	e.connect()
	e.kick(e.mine())
	e.ended("a kick", control.CodeDenied, blockedStill, "meshcrypt connect", "meshcrypt disconnect")
	e.closed("a kick", "since 20")

	// A refused first login changes nothing.
	wrong := e.Write("wrong\n", "wrong")
	r := e.client.try("connect", "--run-dir", e.runDir(), "--profile", e.profile, "--password-file", wrong)
	if r.Code != control.CodeAuth || !strings.Contains(r.Stderr, "still closed") {
		t.Errorf("a wrong password: exit %d, %s", r.Code, r.Stderr)
	}
	e.closed("a refused login")
	e.disconnect()
	e.open("disconnect")
	if r := e.client.try("connect", "--run-dir", e.runDir(), "--profile", e.profile, "--password-file", wrong); r.Code != control.CodeAuth {
		t.Errorf("a wrong password on an open host: exit %d, %s", r.Code, r.Stderr)
	}
	e.open("a refused first login")

	e.connect()
	e.client.process.Kill()
	e.closed("kill -9", "killed")
	e.connect() // takes over

	e.client.process.Signal(syscall.SIGQUIT) // Go's own breakdown, as of a panic
	e.ended("a breakdown", 2)
	e.closed("a breakdown", "broke down")
	e.damage()
	e.closed("damage to the state file", "damaged")
	e.disconnect()
	e.open("disconnect")

	e.connect()
	session := e.mine()
	e.client.process.Signal(syscall.SIGSTOP) // hears nothing of its end, and is refused when it returns
	e.kick(session)
	time.Sleep(6 * time.Second) // more than the arbiter lets a client be silent
	e.client.process.Signal(syscall.SIGCONT)
	e.ended("a refused resumption", control.CodeDenied, blockedStill)
	e.closed("a refused resumption")

	e.connect()
	n.must("client", "revoke", user)
	e.ended("revocation", control.CodeDenied, "revoked", blockedStill)
	e.closed("revocation", "revoked")
	e.disconnect()
	e.open("disconnect")

	e.expire()
	e.ended("expiry", control.CodeAuth, "expired", blockedStill)
	e.closed("expiry", "since 20", "expired")
	e.disconnect()
	e.open("disconnect")
}

// certificateLife is enough to log in by it; a session's certificate is looked at
// again whenever the session comes back.
const certificateLife = 8 * time.Second

// expire has a session live longer than its certificate, and then lose its
// connection to the arbiter.
func (e *ends) expire() {
	e.Helper()
	n := e.nodes[0]
	n.must("client", "add", "bob", "--cert", "--out", e.Dir, "--life", certificateLife.String())
	issued := time.Now()
	e.env = append(e.env, "MESHCRYPT_PARK_AFTER=1h") // who is parked has no connection that breaks
	e.connectBy("--profile", e.Write(n.must("client", "profile", "bob"), "bob.toml"),
		"--cert", e.File("bob.crt"), "--key", e.File("bob.key"))
	e.seen.Reset()
	time.Sleep(time.Until(issued.Add(certificateLife + time.Second)))
	e.wan.Sh("nft 'add table ip cut; add chain ip cut f { type filter hook forward priority 0; };" +
		"add rule ip cut f ip saddr " + clientOuter + " tcp dport 6484 counter reject with tcp reset'")
	e.Until("the connection to the arbiter breaks", opened, func() error {
		if cut := e.wan.Sh("nft list table ip cut"); strings.Contains(cut, "packets 0 ") {
			return fmt.Errorf("nothing was sent: %s", cut)
		}
		return nil
	})
	e.wan.Sh("nft delete table ip cut")
	if seen := e.seen.Seen(); len(seen.Canaries) > 0 {
		e.t.Errorf("before the expiry was heard of: in clear at the router: %s", seen.Canaries[0])
	}
}

// damage cuts the state file in half.
func (e *ends) damage() {
	e.Helper()
	path := e.File("client", "run", "client-host.json")
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()/2)
	}
	if err != nil {
		e.Fatalf("%v", err)
	}
	if r := e.client.try("connect", "--run-dir", e.runDir(), "--profile", e.profile, "--password-file", e.passwordFile()); r.Code == 0 || !strings.Contains(r.Stderr, "meshcrypt disconnect") {
		e.t.Errorf("connect over a damaged state file: exit %d, %s", r.Code, r.Stderr)
	}
}

// TestAskedEndsAreOpen: the user's own ends are clean, and the host is as before.
func TestAskedEndsAreOpen(t *testing.T) {
	t.Parallel()
	e := newEnds(t)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		e.connect()
		e.client.process.Signal(s)
		e.client.process.Signal(s) // an impatient one
		e.ended(s.String(), 0)
		e.open(s.String())
	}
	e.connect()
	e.disconnect()
	e.ended("disconnect", 0)
	e.open("disconnect")

	// While the first login is tried; there is nobody at that address.
	e.client.start("connect", "--run-dir", e.runDir(), "--profile", e.nowhere(), "--password-file", e.passwordFile())
	time.Sleep(time.Second)
	e.client.process.Signal(syscall.SIGTERM)
	e.ended("SIGTERM during the login", 0)
	e.open("SIGTERM during the login")

	// At every moment of a first login that goes well.
	step := 125 * time.Millisecond
	if os.Getenv(envMatrix) == "all" {
		step = 25 * time.Millisecond
	}
	for wait := time.Duration(0); wait < 500*time.Millisecond; wait += step {
		e.client.start("connect", "--run-dir", e.runDir(), "--profile", e.profile, "--password-file", e.passwordFile())
		e.Until("the program has started", 10*time.Second, func() error { return e.client.process.Catches(syscall.SIGTERM) })
		time.Sleep(wait + 50*time.Millisecond) // its runtime has, and main begins
		e.client.process.Signal(syscall.SIGTERM)
		e.ended(fmt.Sprintf("SIGTERM %v into a login", wait), 0)
	}
	e.open("SIGTERM in a login")

	// Whoever reads the log is gone before the end.
	e.client.process = e.client.Start("piped", e.client.environment(), "sh", "-c",
		`exec "$@" 2>&1 >/dev/null | head -n 1`, "sh", e.binary, "connect", "--run-dir", e.runDir(),
		"--profile", e.profile, "--password-file", e.passwordFile(), "--log-level", "debug")
	e.Until("a session", 20*time.Second, e.routed)
	e.disconnect()
	e.open("an end after its reader's")

	// nohup: the terminal does not matter.
	e.client.process = e.client.Start("nohup", e.client.environment(), "sh", "-c", `trap "" HUP; exec "$@"`, "sh",
		e.binary, "connect", "--run-dir", e.runDir(), "--profile", e.profile, "--password-file", e.passwordFile())
	e.Until("a session", 20*time.Second, e.routed)
	e.client.process.Signal(syscall.SIGHUP)
	if code, gone := e.client.process.Wait(unheard); gone {
		t.Errorf("nohup connect ended by SIGHUP: exit %d", code)
	}
	e.disconnect()
	e.open("disconnect of nohup")
}

// nowhere is the profile with a gateway that does not answer.
func (e *ends) nowhere() string {
	e.Helper()
	text, err := os.ReadFile(e.profile)
	if err != nil {
		e.Fatalf("%v", err)
	}
	return e.Write(strings.ReplaceAll(string(text), "192.0.2.1", "192.0.2.77"), "nowhere.toml")
}
