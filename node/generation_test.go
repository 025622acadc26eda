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

// foundAlone makes a mesh of one node for Run, on loopback alone, without a TUN if it is to be
// userspace: in a network namespace of its own.
func foundAlone(t *testing.T, userspace bool) (path string) {
	t.Helper()
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	path = t.TempDir()
	dir, err := datadir.Open(path)
	if err == nil {
		_, err = Found(dir, FoundConfig{
			Place: Place{Name: "n1", Listen: netip.MustParseAddrPort("127.0.0.1:6484"), Outer: netip.MustParseAddrPort("127.0.0.1:6484"),
				Inside: netip.MustParseAddr("127.0.0.1"), InsideIf: "lo", Capacity: 1000, Userspace: userspace, TUN: "mc-test"},
			Pool: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}, Egress: registry.EgressMasquerade,
			Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")},
		}, time.Now())
	}
	if err == nil {
		err = dir.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// cloned has the kernel say that this machine was cloned until the node has heard it.
func cloned(t *testing.T, heard <-chan struct{}, ended <-chan error) {
	t.Helper()
	hang := time.After(30 * time.Second)
	for {
		linktest.DeviceEvent(t, linktest.Cloned)
		select {
		case <-heard:
			return
		case err := <-ended:
			t.Fatalf("it does not run: %v", err)
		case <-hang:
			t.Fatal("it does not hear its kernel")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// TestClonedNodeBeginsAnew: a node as it runs hears its kernel.
func TestClonedNodeBeginsAnew(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	path := foundAlone(t, true)
	ctx, cancel := context.WithCancel(t.Context())
	anew, ended := make(chan struct{}, 100), make(chan error, 1)
	go func() {
		ended <- Run(ctx, RunConfig{DataDir: path, Log: slog.New(slog.DiscardHandler), Version: "test", BeginAnew: func(bool) {
			select {
			case anew <- struct{}{}:
			default:
			}
		}})
	}()
	cloned(t, anew, ended)
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
