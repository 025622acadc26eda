package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

// fakeClient is a running client's socket in a run directory.
func fakeClient(t *testing.T, s control.ClientStatus) (runDir string) {
	t.Helper()
	runDir, _ = fakeDaemon(t, map[string]any{control.OpStatus: s})
	if err := os.Rename(filepath.Join(runDir, datadir.SocketName), filepath.Join(runDir, node.ClientSocket)); err != nil {
		t.Fatal(err)
	}
	return runDir
}

// TestClientStatus: where no daemon runs, status is the client's; with both it
// is the daemon's, unless --client asks for the client's.
func TestClientStatus(t *testing.T) {
	runDir := fakeClient(t, control.ClientStatus{
		Health: "ok", User: "ann", Session: "4f2a", Mode: "burst", MTU: 1420, Source: netip.MustParseAddr("198.51.100.7"), Control: true,
		Gateways: []control.ClientGateway{
			{Address: netip.MustParseAddrPort("192.0.2.1:6484"), Transport: "tls", InUse: true},
			{Address: netip.MustParseAddrPort("192.0.2.2:6484"), Control: true},
		},
		Local: []control.ClientLocal{
			{Network: netip.MustParsePrefix("10.1.2.0/24"), Device: "eth0", Pushed: netip.MustParsePrefix("10.0.0.0/8"), Way: control.WayHidden, Remedy: "try this"},
			{Network: netip.MustParsePrefix("10.3.0.0/24"), Device: "eth0", Pushed: netip.MustParsePrefix("10.0.0.0/8"), Way: control.WayExcepted},
			{Network: netip.MustParsePrefix("10.4.0.0/24"), Device: "docker0", Pushed: netip.MustParsePrefix("10.0.0.0/8"), Way: control.WayOwn},
		},
		Slices: []control.ClientSlice{{Number: 1, Epoch: 2, Agent: "qbdn4nqf", State: "up", Direct: netip.MustParseAddrPort("192.0.2.3:6484"), RTT: 1230 * time.Microsecond, Heard: 40 * time.Millisecond}},
	})
	daemon, _ := fakeDaemon(t, map[string]any{control.OpStatus: degraded()})
	for _, where := range [][]string{{"--data-dir", t.TempDir()}, {"--data-dir", daemon, "--client"}} {
		got := meshcrypt(t, "", append([]string{"status", "--run-dir", runDir}, where...)...)
		got.want(t, 0)
		for _, want := range []string{
			"# Health: ok", "ann", "192.0.2.1:6484  in use by TLS  from 198.51.100.7", "192.0.2.2:6484  leads to the arbiter",
			"10.1.2.0/24 on eth0  hidden by 10.0.0.0/8: try this", "10.3.0.0/24 on eth0  excepted from 10.0.0.0/8", "10.4.0.0/24 on docker0  kept",
			"1.2  agent qbdn4nqf  up  directly to 192.0.2.3:6484  rtt 1.23ms  heard 40ms ago",
		} {
			if !strings.Contains(got.stdout, want) {
				t.Errorf("without %q:\n%s", want, got.stdout)
			}
		}
	}
	t.Setenv("MESHCRYPT_RUN_DIR", runDir)
	meshcrypt(t, "", "status", "--data-dir", daemon).want(t, control.CodeDegraded)
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	got := meshcrypt(t, "", "status", "--data-dir", t.TempDir(), "--run-dir", runDir, "-o", "json")
	var s control.ClientStatus
	if err := json.Unmarshal([]byte(got.stdout), &s); err != nil || s.Schema != "meshcrypt.client-status/v1" || s.Gateways[0].Transport != "tls" {
		t.Errorf("%v: %+v", err, s)
	}
	for _, check := range []string{"live", "ready"} {
		if got := meshcrypt(t, "", "status", "--check", check, "--data-dir", t.TempDir(), "--run-dir", runDir); got.code != 0 || got.stdout+got.stderr != "" {
			t.Errorf("check %s: %+v", check, got)
		}
	}
	got = meshcrypt(t, "", "status", "--data-dir", t.TempDir(), "--run-dir", t.TempDir())
	got.want(t, control.CodeUnreachable)
}
