package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/host"
)

// leave writes the state file of a client that is gone.
func leave(t *testing.T, text string) (runDir string) {
	t.Helper()
	runDir = t.TempDir()
	if err := os.WriteFile(filepath.Join(runDir, node.ClientState), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return runDir
}

// TestClosedIsTold: since when, why, by what, and what opens it; a host whose routes
// and fence are gone is not called closed.
func TestClosedIsTold(t *testing.T) {
	prefixes := []netip.Prefix{netip.MustParsePrefix("10.20.0.0/24")}
	for _, c := range []struct {
		closed control.ClientClosed
		want   []string
	}{
		{control.ClientClosed{Since: time.Unix(1796000000, 0), Why: "kicked", By: []string{"routes", "fence"}},
			[]string{"# Health: CLOSED: closed since 20", " because kicked: meshcrypt disconnect", "10.20.0.0/24  by routes and fence"}},
		{control.ClientClosed{By: []string{"fence"}},
			[]string{"CLOSED: closed because its client was killed or broke down: meshcrypt disconnect", "by the fence alone, other software removed the routes"}},
		{control.ClientClosed{By: []string{"routes"}}, []string{"# Health: CLOSED", "by routes alone, other software removed the fence"}},
		{control.ClientClosed{Unseen: true}, []string{"# Health: CLOSED", "as far as this user may see"}},
		{control.ClientClosed{Why: "kicked"}, []string{"# Health: OPEN: other software removed what kept this host closed: meshcrypt connect, or meshcrypt disconnect", "nothing"}},
	} {
		if len(c.closed.By) > 0 {
			c.closed.Prefixes = prefixes
		}
		var out strings.Builder
		clientStatusTable(&out, closedStatus(c.closed))
		for _, want := range c.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%+v lacks %q:\n%s", c.closed, want, out.String())
			}
		}
		if isOpen(c.closed) && strings.Contains(out.String(), "10.20") {
			t.Errorf("blocked where nothing is:\n%s", out.String())
		}
	}
}

// TestStatusOfAClosedHost: where no client runs, status says what is left of the last
// one, here of one whose routes and fence other software removed; checks find nobody.
func TestStatusOfAClosedHost(t *testing.T) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	state := fmt.Sprintf(`{"schema":"meshcrypt.host/v1","boot":%q,"role":"client","table":6484`, strings.TrimSpace(string(boot)))
	for text, why := range map[string]string{
		state + `,"closing":{"since":"2026-11-29T01:02:03Z","why":"the session is over: kicked"}}`: "kicked",
		state + "}": "killed",
		state:       "damaged",
	} {
		runDir := leave(t, text)
		args := []string{"status", "--data-dir", t.TempDir(), "--run-dir", runDir}
		got := meshcrypt(t, "", args...)
		got.want(t, control.CodeDegraded)
		open := strings.Contains(got.stdout, "# Health: OPEN: other software removed")
		if unseen := strings.Contains(got.stdout, "# Health: CLOSED") && strings.Contains(got.stdout, why) && os.Geteuid() != 0; !open && !unseen {
			t.Errorf("%s:\n%s", why, got.stdout)
		}
		var s control.ClientStatus
		if err := json.Unmarshal([]byte(meshcrypt(t, "", append(args, "-o", "json")...).stdout), &s); err != nil || s.Health != "open" && os.Geteuid() == 0 || s.Closed == nil {
			t.Errorf("%v: %+v", err, s)
		}
		meshcrypt(t, "", append(args, "--check", "live")...).want(t, control.CodeUnreachable)
	}
	meshcrypt(t, "", "status", "--data-dir", t.TempDir(), "--run-dir", t.TempDir()).want(t, control.CodeUnreachable)
	// A client that runs is asked itself.
	runDir := fakeClient(t, control.ClientStatus{Health: "ok"})
	if err := os.WriteFile(filepath.Join(runDir, node.ClientState), []byte(state+"}"), 0o600); err != nil {
		t.Fatal(err)
	}
	meshcrypt(t, "", "status", "--client", "--run-dir", runDir).want(t, 0)
	// One that does not answer is not gone, and nothing of it is taken away.
	runDir = leave(t, state+"}")
	listener, err := net.Listen("unix", filepath.Join(runDir, node.ClientSocket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			conn.Close()
		}
	}()
	meshcrypt(t, "", "status", "--client", "--run-dir", runDir).want(t, control.CodeUnreachable)
	meshcrypt(t, "", "disconnect", "--run-dir", runDir).want(t, control.CodeUnreachable)
	if _, err := os.Stat(filepath.Join(runDir, node.ClientState)); err != nil {
		t.Errorf("the state file of a client that runs: %v", err)
	}
}

// TestShutNamesTheWayOut: the reason keeps its exit code, and both ways on are named.
func TestShutNamesTheWayOut(t *testing.T) {
	for why, code := range map[error]int{
		fmt.Errorf("%w: kicked", client.ErrEnded): control.CodeDenied, client.ErrHeadless: control.CodeUnreachable,
		host.ErrNoDevice: control.CodeFailed, errors.New("x"): control.CodeFailed,
	} {
		f := explain(&node.Shut{Why: why})
		if f.code != code || !strings.Contains(f.cause, why.Error()) || !strings.Contains(f.cause, "stays blocked") ||
			!strings.Contains(f.next, "meshcrypt connect") || !strings.Contains(f.next, "meshcrypt disconnect") {
			t.Errorf("%v: %+v", why, f)
		}
	}
}

// TestExceptRefuses: what may not be kept out of a tunnel is refused before
// anything is tried.
func TestExceptRefuses(t *testing.T) {
	profile := write(t, client.Profile{Gateways: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6484")}, User: "ann"}.Text())
	connect := []string{"connect", "--profile", profile, "--tun", "mc-test0"}
	for except, words := range map[string]string{
		"203.0.113.0/24": "not wholly inside a private range", "0.0.0.0/0": "not wholly inside", "10.1.2.3": "is no prefix", "x": "is no prefix",
		strings.Repeat("10.0.0.0/8,", host.MaxExcept) + "10.0.0.0/8": "at most 64",
	} {
		meshcrypt(t, "", append(connect, "--except", except)...).want(t, control.CodeUsage, words)
	}
	meshcrypt(t, "", "connect", "--profile", profile, "--proxy", "127.0.0.1:1089", "--except", "10.1.2.0/24").
		want(t, control.CodeUsage, "nothing to except")
}

// TestAClientWithoutSocketRuns: a client that runs keeps what it has on this host,
// though nobody answers at its socket: disconnect says how to end it, status does
// not call the host closed, and a second connect is refused before it logs in.
func TestAClientWithoutSocketRuns(t *testing.T) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	runDir := leave(t, fmt.Sprintf(`{"schema":"meshcrypt.host/v1","boot":%q,"role":"client","table":6484}`, strings.TrimSpace(string(boot))))
	unlock, err := node.LockClient(t.Context(), runDir)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	kill := fmt.Sprintf("next: kill %d", os.Getpid())
	meshcrypt(t, "", "disconnect", "--run-dir", runDir).want(t, control.CodeUnreachable, "a client runs here", kill)
	if _, err := os.Stat(filepath.Join(runDir, node.ClientState)); err != nil {
		t.Errorf("the state file of a client that runs: %v", err)
	}
	status := meshcrypt(t, "", "status", "--client", "--run-dir", runDir)
	status.want(t, control.CodeUnreachable, "a client runs here", kill)
	profile := write(t, client.Profile{Gateways: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6484")}, User: "ann", Cluster: identity.ClusterID{1}}.Text())
	meshcrypt(t, "", "connect", "--profile", profile, "--proxy", "127.0.0.1:1089", "--run-dir", runDir, "--data-dir", t.TempDir(),
		"--password-file", write(t, "x")).want(t, control.CodeFailed, "a client runs here already", "meshcrypt disconnect")
}

// TestShutForRevoked: who is revoked is not told to try again, but whom to ask.
func TestShutForRevoked(t *testing.T) {
	f := explain(&node.Shut{Why: client.ErrRevoked})
	if f.code != control.CodeDenied || strings.Contains(f.next, "try again") ||
		!strings.Contains(f.next, "ask the mesh's operator") || !strings.Contains(f.next, "meshcrypt disconnect") {
		t.Errorf("%+v", f)
	}
}
