package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestRefusal: a machine that refuses user namespaces gets the exact command.
func TestRefusal(t *testing.T) {
	for _, c := range []struct {
		settings map[string]string
		next     string
	}{
		{map[string]string{"kernel.apparmor_restrict_unprivileged_userns": "1", "kernel.unprivileged_userns_clone": "1"},
			"allow them with: sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or run it as root: sudo meshcrypt demo"},
		{map[string]string{"kernel.unprivileged_userns_clone": "0"},
			"allow them with: sudo sysctl kernel.unprivileged_userns_clone=1, or run it as root: sudo meshcrypt demo"},
		{map[string]string{"user.max_user_namespaces": "0"},
			"allow them with: sudo sysctl user.max_user_namespaces=15000, or run it as root: sudo meshcrypt demo"},
		{nil, "run it as root: sudo meshcrypt demo"},
	} {
		err := refusal(syscall.EPERM, func(name string) string { return c.settings[name] })
		var r *Refused
		if !errors.As(err, &r) || r.Next != c.next || !errors.Is(err, syscall.EPERM) {
			t.Errorf("%v: %+v", c.settings, err)
		}
	}
}

func TestNamespaces(t *testing.T) {
	if a := namespaces(0, 0); a.Cloneflags&syscall.CLONE_NEWUSER != 0 || len(a.UidMappings) != 0 {
		t.Error("root needs no user namespace")
	}
	a := namespaces(1000, 1001)
	if a.Cloneflags&syscall.CLONE_NEWUSER == 0 || a.UidMappings[0].HostID != 1000 || a.GidMappings[0].HostID != 1001 || a.Pdeathsig != syscall.SIGKILL {
		t.Errorf("%+v", a)
	}
}

func TestConfigLimits(t *testing.T) {
	ok := Config{Seconds: MinSeconds, Nodes: MinNodes, Rate: MinRate}
	most := Config{Seconds: MaxSeconds, Nodes: MaxNodes, Rate: MaxRate}
	if err := errors.Join(ok.Check(), most.Check()); err != nil {
		t.Errorf("at the limits: %v", err)
	}
	for _, bad := range []Config{
		{MinSeconds - 1, MinNodes, MinRate, false, false, "", nil, nil, nil},
		{MinSeconds, MaxNodes + 1, MinRate, false, false, "", nil, nil, nil},
		{MinSeconds, MinNodes, MaxRate + 1, false, false, "", nil, nil, nil},
	} {
		if bad.Check() == nil {
			t.Errorf("accepted %+v", bad)
		}
	}
}

// TestEnvironment: the user's own settings do not reach the demo's nodes.
func TestEnvironment(t *testing.T) {
	got := environment([]string{"PATH=/bin", "MESHCRYPT_LISTEN=x", "MESHCRYPT_TOKEN=y"})
	if !slices.Equal(got, []string{"PATH=/bin", "MESHCRYPT_CONFIG=/dev/null"}) {
		t.Errorf("%q", got)
	}
}

// TestSourceKeepsItsPace: byte n leaves no earlier than it is due, and a
// source that was held up catches up without waiting.
func TestSourceKeepsItsPace(t *testing.T) {
	var now time.Duration
	const rate, total = 8_000_000, 100_000 // a megabyte per second
	s := newSource(t.Context(), total, rate, func() time.Duration { return now })
	s.wait = func(_ context.Context, d time.Duration) error { now += d; return nil }
	buffer := make([]byte, chunkMax)
	for s.sent < total/2 {
		if _, err := s.Read(buffer); err != nil {
			t.Fatal(err)
		}
		if early := due(s.sent-min(s.sent, chunk(rate)), rate) - now; early > 0 {
			t.Fatalf("%d bytes left %v early", s.sent, early)
		}
	}
	now += time.Second // held up
	before := now
	rest, err := io.ReadAll(s)
	if err != nil || s.sent != total || now != before || len(rest) == 0 {
		t.Errorf("%d bytes, %v, waited %v", s.sent, err, now-before)
	}
	s = newSource(t.Context(), 1, 1, func() time.Duration { return -time.Second })
	s.wait = func(context.Context, time.Duration) error { return context.Canceled }
	if _, err := s.Read(buffer); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// TestTransferOverHTTP: both ways at once, and both ends agree on the bytes.
func TestTransferOverHTTP(t *testing.T) {
	var out, in strings.Builder
	e := &events{w: &out}
	server := httptest.NewServer(handler(e))
	defer server.Close()
	transfer := Transfer{URL: server.URL, Bytes: 300_000, Rate: MaxRate}
	if err := transfer.Run(t.Context(), &in); err != nil {
		t.Fatal(err)
	}
	server.Close() // waits for the handlers, which tell last
	ways := map[string]*Way{wayUp: {Wanted: transfer.Bytes}, wayDown: {Wanted: transfer.Bytes}}
	tell(strings.NewReader(out.String()), ways)
	tell(strings.NewReader(in.String()), ways)
	for name, way := range ways {
		if p := way.problems(name); !way.done() || len(p) > 0 || way.Sent != transfer.Bytes {
			t.Errorf("%s: %+v %q", name, way, p)
		}
	}
}

// TestTransferBreaksOff: a server that goes away is a failure, not silence.
func TestTransferBreaksOff(t *testing.T) {
	var in strings.Builder
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		panic(http.ErrAbortHandler)
	}))
	defer server.Close()
	if err := (Transfer{URL: server.URL, Bytes: 10_000_000, Rate: MaxRate}).Run(t.Context(), &in); err == nil {
		t.Error("no error")
	}
	ways := map[string]*Way{wayUp: {}, wayDown: {}}
	tell(strings.NewReader(in.String()), ways)
	if ways[wayUp].Failure == "" || ways[wayDown].Failure == "" {
		t.Errorf("%+v %+v", ways[wayUp], ways[wayDown])
	}
}

func tell(r io.Reader, ways map[string]*Way) {
	lines(r, func(line []byte) { note(line, ways, 0) })
}

// TestTUNLine: whatever is wrong with the device, the line that helps is said.
func TestTUNLine(t *testing.T) {
	absent := openTUN(filepath.Join(t.TempDir(), "tun"))
	if absent == nil {
		t.Fatal("opened what does not exist")
	}
	for cause, want := range map[error]string{
		absent:                                "mknod -m 666 /dev/net/tun c 10 200",
		fmt.Errorf("tun: %w", syscall.EACCES): "sudo chmod 666 /dev/net/tun",
		fmt.Errorf("tun: %w", syscall.ENODEV): "sudo modprobe tun",
	} {
		if got := tunLine(cause); !strings.Contains(got, want) {
			t.Errorf("%v: %q, want %q", cause, got, want)
		}
	}
}
