package client

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// welcome opens the session at the present connection.
func (f *fixture) welcome(w protocol.Welcome) {
	welcomed{f.control, w}.apply(f.Client)
}

func (f *fixture) hear(m *protocol.Client) { controlReceived{f.control, m}.apply(f.Client) }

func (f *fixture) failure() error {
	select {
	case err := <-f.failed:
		return err
	default:
		return nil
	}
}

func TestGatewayList(t *testing.T) {
	a, b, c := gatewayAddr(0), gatewayAddr(1), netip.MustParseAddrPort("192.0.2.9:1")
	g := gatewayList{all: []netip.AddrPort{a, b}, current: 1}
	g.replace([]netip.AddrPort{c, b}, b)
	if g.at(g.current) != b {
		t.Error("a gateway that stays is left")
	}
	g.replace([]netip.AddrPort{c, a}, b)
	if g.at(g.current) != c {
		t.Error("a gateway that is gone is kept")
	}
	g.replace(nil, c)
	if g.at(g.current) != c {
		t.Error("an empty list leaves the client without gateways")
	}
	many := make([]netip.AddrPort, MaxGateways+5)
	for i := range many {
		many[i] = netip.AddrPortFrom(a.Addr(), uint16(i+1))
	}
	if g.replace(many, a); len(g.all) != MaxGateways {
		t.Errorf("I10: %d gateways", len(g.all))
	}
}

func TestWhatNoRetryWouldChange(t *testing.T) {
	refused := func(code string) error { return fmt.Errorf("through x: %w", &Refusal{protocol.Refused{Code: code}}) }
	resumed := &resumption{}
	for _, c := range []struct {
		err    error
		resume *resumption
		final  bool
		ended  bool
	}{
		{errors.New("connection refused"), nil, false, false},
		{refused(protocol.RefusedRetry), nil, false, false},
		{refused(protocol.RefusedAuth), nil, true, false},
		{refused(protocol.RefusedCapacity), nil, true, false},
		{refused(protocol.RefusedSession), resumed, true, true},
		{refused(protocol.RefusedSession), nil, false, false}, // of a request that was refused unheard
		{refused(protocol.RefusedPolicy), resumed, true, false},
	} {
		got := finalRefusal(c.err, c.resume)
		if (got != nil) != c.final || errors.Is(got, ErrEnded) != c.ended {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

func TestWelcomeAndPushes(t *testing.T) {
	f := newFixture(t)
	f.connect()
	readies := 0
	f.config.Ready = func() { readies++ }
	net1, net2 := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")
	a := f.offer(0, 1, nil)
	f.welcome(protocol.Welcome{
		Leases: []netip.Addr{lease()}, Mode: registry.ModeBurst, Slices: []protocol.SliceOffer{a.offer}, Headless: 60,
		Update: protocol.Update{Gateways: []netip.AddrPort{gatewayAddr(1), gatewayAddr(0)}, Prefixes: []netip.Prefix{net1}},
	})
	if len(f.slices) != 1 || f.Client.gateways.at(f.Client.gateways.current) != gatewayAddr(0) {
		t.Errorf("%d slices, gateway %v: it entered through the other", len(f.slices), f.Client.gateways.at(f.Client.gateways.current))
	}
	f.hear(&protocol.Client{Up: &protocol.SliceRef{}})
	f.hear(&protocol.Client{Up: &protocol.SliceRef{}})
	if readies != 1 {
		t.Errorf("ready %d times", readies)
	}
	f.hear(&protocol.Client{Update: &protocol.Update{Gateways: []netip.AddrPort{gatewayAddr(1)}, Prefixes: []netip.Prefix{net2}}})
	if len(f.ups) != 2 || f.ups[1].Prefixes[0] != net2 {
		t.Errorf("routes were set %d times", len(f.ups))
	}
	f.hear(&protocol.Client{Drop: &protocol.SliceRef{Number: 0, Epoch: 1}})
	if f.slices[sliceKey{0, 1}].retireAt == 0 {
		t.Error("a dropped slice is still used")
	}
	f.hear(&protocol.Client{Bye: &protocol.Bye{Reason: "revoked"}})
	if err := f.failure(); !errors.Is(err, ErrEnded) {
		t.Errorf("ended with %v", err)
	}
	older := f.control
	f.connect()
	controlReceived{older, &protocol.Client{Bye: &protocol.Bye{}}}.apply(f.Client)
	controlLost{older}.apply(f.Client)
	if f.failure() != nil || f.control == nil {
		t.Error("a connection that was replaced is still obeyed")
	}
}

// TestSilentArbiter: after the headless time the session stops by itself (I12), at a fake
// clock's word; a beat is a word.
func TestSilentArbiter(t *testing.T) {
	f := newFixture(t)
	f.connect()
	f.welcome(protocol.Welcome{Headless: 60, Leases: []netip.Addr{lease()}})
	f.advance(time.Minute)
	f.do(controlBeat{f.control})
	f.advance(time.Minute)
	if err := f.failure(); err != nil {
		t.Fatalf("stopped too early: %v", err)
	}
	f.advance(TickEvery)
	if err := f.failure(); !errors.Is(err, ErrHeadless) {
		t.Errorf("goes on without an arbiter: %v", err)
	}
}

// TestRestingClientIsQuiet: an arbiter of a build that hears no beats is told each second
// that the client lives, any other only what changed.
func TestRestingClientIsQuiet(t *testing.T) {
	f := newFixture(t)
	f.connect()
	alive := func() (n int) {
		f.advance(10 * AliveEvery)
		for _, m := range f.said() {
			if m.Alive != nil {
				n++
			}
		}
		return n
	}
	if n := alive(); n != 10 {
		t.Errorf("an older arbiter is told %d times in 10 s", n)
	}
	f.control.Beats()
	if n := alive(); n != 0 {
		t.Errorf("%d times the same", n)
	}
	f.control.alive.Bytes++ // as if that many had been said
	if n := alive(); n != 1 {
		t.Errorf("a change is told %d times", n)
	}
}

func TestMaxEventsAndOutbox(t *testing.T) {
	f := newFixture(t)
	for range MaxOutside + 5 {
		f.ReceiveMarked(nil, link.Path{}, dataplane.Marker{Type: dataplane.MarkerConfirm}, make([]byte, 12))
	}
	f.ReceiveMarked(nil, link.Path{}, dataplane.Marker{Type: dataplane.MarkerAccept}, nil)
	if len(f.events) != 0 || len(f.outside) != MaxOutside {
		t.Errorf("I10: %d events and %d of strangers", len(f.events), len(f.outside))
	}
	loud, calm := sliceKey{1, 1}, sliceKey{2, 1}
	for range 2 * MaxControl {
		f.speaks(loud, []byte{probe.KindReply})
	}
	if lost := f.refusals.control.Load(); lost != 2*MaxControl-MaxControlEach || len(f.events) != 0 {
		t.Errorf("I10: %d messages of one agent lost, %d events", lost, len(f.events))
	}
	if f.speaks(calm, []byte{probe.KindReply}); f.refusals.control.Load() != 2*MaxControl-MaxControlEach {
		t.Error("another agent's message was lost")
	}
	s := f.connect()
	for range MaxOutbox {
		f.say(&protocol.Client{})
	}
	if s.Waiting() != MaxOutbox {
		t.Fatalf("%d messages wait", s.Waiting())
	}
	f.say(&protocol.Client{})
	select {
	case <-s.Done():
	default:
		t.Error("I10: an arbiter that does not read keeps its connection")
	}
}

// TestFirstLoginIsOneRequest, through whichever gateway and however often: the
// arbiter must know it again when its first answer was lost (design 5).
func TestFirstLoginIsOneRequest(t *testing.T) {
	f := newFixture(t)
	one, two := f.hello(nil), f.hello(nil)
	if one.Request != two.Request || one.Request == [16]byte{} || one.Nonce == two.Nonce {
		t.Errorf("requests %x and %x, nonces %x and %x", one.Request, two.Request, one.Nonce, two.Nonce)
	}
	f.askAnew(fmt.Errorf("read: %w", io.EOF))
	if f.hello(nil).Request != one.Request {
		t.Error("an answer that was lost makes it another request")
	}
	f.askAnew(fmt.Errorf("through x: %w", &Refusal{protocol.Refused{Code: protocol.RefusedRetry}}))
	if anew := f.hello(nil).Request; anew == one.Request || anew == [16]byte{} {
		t.Errorf("a request that was refused is made again: %x", anew)
	}
	if back, again := f.hello(&resumption{}), f.hello(&resumption{}); back.Request == one.Request || back.Request == again.Request {
		t.Error("a resumption is an older request")
	}
}

// TestRevokedIsAnEnd: whoever says it, at once or when the client comes back, by a name of its own.
func TestRevokedIsAnEnd(t *testing.T) {
	for reason, revoked := range map[string]bool{
		registry.ReasonRevoked: true, registry.ReasonCertificate: true, protocol.ItEnded + registry.ReasonAuthority: true,
		"ended by the operator": false, "": false,
	} {
		err := error(over{reason})
		if !errors.Is(err, ErrEnded) || errors.Is(err, ErrRevoked) != revoked || errors.Is(err, ErrHeadless) {
			t.Errorf("%q: revoked %v", reason, errors.Is(err, ErrRevoked))
		}
	}
}
