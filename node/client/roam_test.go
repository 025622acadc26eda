package client

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/node/host"
)

// around is a host's network that the test changes: how addresses of either
// family are reached.
type around struct {
	exit, exit6 host.Exit
	copied      chan func() // who is to hear that this machine was cloned
}

func (a *around) Watch(ctx context.Context, _ func()) error { <-ctx.Done(); return nil }

func (a *around) WatchGeneration(ctx context.Context, heard func()) error {
	if a.copied != nil {
		a.copied <- heard
	}
	<-ctx.Done()
	return nil
}

func (a *around) ExitTo(to netip.Addr) host.Exit {
	if to.Is6() {
		return a.exit6
	}
	return a.exit
}

// inNetwork gives the client a session in a network of its own.
func (f *fixture) inNetwork() *around {
	a := &around{exit: host.Exit{Device: 2, Source: netip.MustParseAddr("198.51.100.7")}}
	f.config.Network, f.session, f.exit = a, &session{}, a.exit
	return a
}

// TestNetworkChanges: every SA speaks at once by the new way; what did not
// change costs nothing.
func TestNetworkChanges(t *testing.T) {
	f := newFixture(t)
	f.connect()
	network, slices := f.inNetwork(), []*slice{f.slice(0, 1), f.slice(1, 1)}
	networkChanged{}.apply(f.Client)
	for _, s := range slices {
		if n := len(f.arrived(0, s)); n != 0 {
			t.Errorf("slice %d sent %d packets though nothing changed", s.key.number, n)
		}
	}
	network.exit.Device = 3
	networkChanged{}.apply(f.Client)
	for _, s := range slices {
		if n := len(f.arrived(0, s)); n != 1 {
			t.Errorf("slice %d sent %d packets by the new way, want 1", s.key.number, n)
		}
		if path, _ := s.pair.Path(); path.Remote != gatewayAddr(0) {
			t.Errorf("slice %d left its gateway for %v", s.key.number, path.Remote)
		}
	}
}

// TestNoNetwork: silence says nothing about the gateway while no packet can
// leave; the client stays, and speaks as soon as there is a way again.
func TestNoNetwork(t *testing.T) {
	f := newFixture(t)
	network, s := f.inNetwork(), f.slice(0, 1)
	was := network.exit
	network.exit = host.Exit{}
	networkChanged{}.apply(f.Client)
	f.ask(s, f.config.Now())
	f.advance(3000 * ms)
	if path, _ := s.pair.Path(); path.Remote != gatewayAddr(0) || s.condemned {
		t.Errorf("path %v, condemned %v", path.Remote, s.condemned)
	}
	f.arrived(0, s)
	network.exit = was
	f.superviseNetwork()
	if n := len(f.arrived(0, s)); n != 1 {
		t.Errorf("%d packets by the new way, want 1", n)
	}
	if why := <-f.redial; why != moved {
		t.Error("redials through another gateway")
	}
}

// TestDialOfTheOldNetworkIsAbandoned: it would wait for its timeout.
func TestDialOfTheOldNetworkIsAbandoned(t *testing.T) {
	f := newFixture(t)
	network := f.inNetwork()
	ctx, cancel := context.WithCancel(context.Background())
	f.dialing.Store(&attempt{gatewayAddr(0), cancel})
	network.exit.Device = 3
	networkChanged{}.apply(f.Client)
	if ctx.Err() == nil {
		t.Error("the attempt goes on")
	}
}

// TestNetworkOfTheOtherFamily: the client goes on through a gateway that the
// new network leads to, and comes back the same way.
func TestNetworkOfTheOtherFamily(t *testing.T) {
	f := newFixture(t)
	f.connect()
	f.Client.gateways.all = []netip.AddrPort{gatewayAddr(0), gatewayAddr(1), way6}
	network, s := f.inNetwork(), f.slice(0, 1)
	for _, c := range []struct {
		exit, exit6 host.Exit
		want        netip.Addr
	}{
		{host.Exit{}, host.Exit{Device: 3, Source: way6.Addr().Next()}, way6.Addr()},
		{host.Exit{Device: 2, Source: gatewayAddr(0).Addr().Next()}, host.Exit{}, gatewayAddr(0).Addr()},
	} {
		network.exit, network.exit6 = c.exit, c.exit6
		networkChanged{}.apply(f.Client)
		if path, _ := s.pair.Path(); path.Remote.Addr() != c.want || f.stranded() {
			t.Errorf("by %v, want %v, stranded %v", path.Remote, c.want, f.stranded())
		}
	}
}

// TestLeavesForWhatIsReached: a silent gateway is not left for one that no
// packet could reach.
func TestLeavesForWhatIsReached(t *testing.T) {
	f := newFixture(t)
	f.Client.gateways.all = []netip.AddrPort{gatewayAddr(0), way6, gatewayAddr(1)}
	network := f.inNetwork()
	f.leaveGateway(f.config.Now(), "silent")
	if got := f.Client.gateways.at(f.Client.gateways.current); got != gatewayAddr(1) {
		t.Errorf("left for %v", got)
	}
	network.exit = host.Exit{}
	f.leaveGateway(f.config.Now(), "silent")
	if got := f.Client.gateways.at(f.Client.gateways.current); got != gatewayAddr(1) {
		t.Errorf("without any way it went to %v", got)
	}
}

// TestNoGatewayIsSaidOnce: a client without a network fills no log.
func TestNoGatewayIsSaidOnce(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	f.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	for range 100 {
		f.leaveGateway(f.config.Now(), "gateway is silent")
	}
	each, none := strings.Count(log.String(), "gateway is silent"), strings.Count(log.String(), "no gateway answers")
	if each != f.Client.gateways.count() || none != 1 {
		t.Errorf("%d gateways named, %d times that there is none:\n%s", each, none, &log)
	}
	log.Reset()
	f.answered()
	f.answered()
	f.leaveGateway(f.config.Now(), "gateway is silent")
	if n := strings.Count(log.String(), "answers again"); n != 1 || strings.Count(log.String(), "gateway is silent") != 1 {
		t.Errorf("afterwards:\n%s", &log)
	}
}
