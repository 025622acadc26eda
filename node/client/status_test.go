package client

import (
	"context"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/host"
)

// status asks as an operator does, while the loop turns.
func (f *fixture) status() (s control.ClientStatus) {
	f.Helper()
	answer := make(chan control.ClientStatus, 1)
	go func() {
		s, err := f.Client.Status(context.Background())
		if err == nil {
			answer <- s
		}
	}()
	f.until("the loop answers", func() bool {
		select {
		case s = <-answer:
			return true
		default:
			return false
		}
	})
	return s
}

// TestStatusShowsTheTransport of the gateway in use, and what ails the session.
func TestStatusShowsTheTransport(t *testing.T) {
	f := newFixture(t)
	if s := f.status(); s.Health != "degraded" || len(s.Problems) != 1 {
		t.Errorf("before the login: %+v", s)
	}
	f.connect()
	network, s := f.inNetwork(), f.slice(0, 1)
	got := f.status()
	if got.Health != "ok" || got.Gateways[0].Transport != "udp" || got.Gateways[1].Transport != "" || !got.Gateways[0].Control {
		t.Errorf("%+v", got)
	}
	if len(got.Slices) != 1 || got.Slices[0].State != "up" || got.Slices[0].Heard != -1 {
		t.Errorf("%+v", got.Slices)
	}
	f.deaf(s)
	f.opened(1)
	f.advance(time.Second, s)
	got = f.status()
	if got.Gateways[1].Transport != "tls" || got.Gateways[0].InUse || got.Slices[0].Heard != 0 {
		t.Errorf("%+v", got)
	}
	network.exit = host.Exit{}
	networkChanged{}.apply(f.Client)
	if got = f.status(); got.Health != "degraded" || len(got.Problems) == 0 {
		t.Errorf("without a network: %+v", got)
	}
}

// TestStatusCountsConfirms that were of no use: of nobody, and too many at once.
func TestStatusCountsConfirms(t *testing.T) {
	f := newFixture(t)
	f.connect()
	for range MaxOutside + 7 {
		f.ReceiveMarked(nil, link.Path{}, dataplane.Marker{Type: dataplane.MarkerConfirm}, make([]byte, 12))
	}
	f.pump()
	got := f.status().Dropped
	if got["confirm-refused"] != MaxOutside || got["confirm-queue-full"] != 7 {
		t.Errorf("%v, want %d refused and 7 too many", got, MaxOutside)
	}
}

// TestStatusOfAStoppedClient does not wait for ever.
func TestStatusOfAStoppedClient(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := f.Client.Status(ctx); err == nil {
		t.Error("a loop that does not turn has answered")
	}
}
