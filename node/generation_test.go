package node

import (
	"context"
	"log/slog"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

// TestClonedNodeBeginsAnew: a node as it runs hears its kernel.
func TestClonedNodeBeginsAnew(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	path := t.TempDir()
	dir, err := datadir.Open(path)
	ok(err)
	_, err = Found(dir, FoundConfig{
		Place: Place{Name: "n1", Listen: netip.MustParseAddrPort("127.0.0.1:6484"), Outer: netip.MustParseAddrPort("127.0.0.1:6484"),
			Inside: netip.MustParseAddr("127.0.0.1"), InsideIf: "lo", Capacity: 1000, Userspace: true},
		Pool: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}, Egress: registry.EgressMasquerade,
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
	}, time.Now())
	ok(err)
	ok(dir.Close())
	ctx, cancel := context.WithCancel(t.Context())
	anew, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() {
		ended <- Run(ctx, RunConfig{DataDir: path, Log: slog.New(slog.DiscardHandler), Version: "test", BeginAnew: func() {
			select {
			case anew <- struct{}{}:
			default:
			}
		}})
	}()
	hang := time.After(30 * time.Second)
	for heard := false; !heard; {
		linktest.DeviceEvent(t, linktest.Cloned)
		select {
		case <-anew:
			heard = true
		case err := <-ended:
			t.Fatalf("it does not run: %v", err)
		case <-hang:
			t.Fatal("it does not hear its kernel")
		case <-time.After(20 * time.Millisecond):
		}
	}
	cancel()
	ok(<-ended)
}
