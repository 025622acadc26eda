package client

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/framed"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// farEnd is the gateway's end of a stream in memory.
type farEnd struct {
	*framed.Socket
	datagrams chan []byte
}

// opened gives the client the stream that it asked for.
func (f *fixture) opened(gateway int) farEnd {
	f.Helper()
	near, far := net.Pipe()
	end := farEnd{framed.New(far, gatewayAddr(9)), make(chan []byte, 64)}
	f.Cleanup(func() { end.Close() })
	go func() {
		for b := make([]byte, link.MaxTrain); ; {
			t, err := end.Receive(b)
			if err != nil {
				return
			}
			end.datagrams <- append([]byte(nil), b[:t.Len]...)
		}
	}()
	streamOpened{framed.New(near, gatewayAddr(gateway)), gatewayAddr(gateway), nil}.apply(f.Client)
	f.Cleanup(f.closeStreams)
	return end
}

// wanted is whether a stream is asked for.
func (f *fixture) wanted() bool {
	select {
	case <-f.transport.wanted:
		return true
	default:
		return false
	}
}

// deaf lets UDP be silent until a stream is asked for, and says how long that took.
func (f *fixture) deaf(s *slice) (took time.Duration) {
	f.Helper()
	return f.deafFor(s, 2*FallbackAfter, true)
}

// deafFor is that for so long at most. near says that there is an arbiter, which is
// reached by TCP each time that its connection is given up.
func (f *fixture) deafFor(s *slice, most time.Duration, near bool) (took time.Duration) {
	f.Helper()
	f.ask(s, f.config.Now())
	for begin := f.config.Now(); !f.wanted(); took = f.config.Now() - begin {
		if near && f.control == nil {
			f.connect()
		}
		if took > most {
			f.Fatal("no stream is asked for")
		}
		f.advance(TickEvery)
	}
	return took
}

// TestNoStreamForNobody: where the arbiter is away, too, a stream waits until there is
// something to send. It is the mesh then that does not answer, and all its clients would
// have it make as many handshakes more.
func TestNoStreamForNobody(t *testing.T) {
	f := newFixture(t)
	f.Client.session = &session{ready: true}
	s := f.slice(0, 1)
	if took := f.deafFor(s, 2*FallbackAway, false); took < FallbackAway {
		t.Errorf("asked for a stream after %v", took)
	}
	for _, c := range []struct {
		urgent, away, rested bool
		want                 time.Duration
	}{
		{false, false, false, FallbackAfter}, {false, false, true, FallbackIdle}, {true, false, true, 0},
		{false, true, false, FallbackAfter}, {true, true, false, 0}, {true, true, true, FallbackAway},
	} {
		if got := (&transport{urgent: c.urgent}).patience(c.away, c.rested); got != c.want {
			t.Errorf("%+v: it waits %v", c, got)
		}
	}
}

// TestSilentUDPFallsBack: not before it has been silent for a while; then
// every slice speaks at once on the one stream.
func TestSilentUDPFallsBack(t *testing.T) {
	f := newFixture(t)
	s, sibling := f.slice(0, 1), f.slice(1, 1)
	if took := f.deaf(s); took < FallbackAfter {
		t.Errorf("asked for a stream after %v", took)
	}
	f.received(0)
	f.received(1)
	end := f.opened(1)
	heard := map[uint32]bool{}
	for range 2 {
		spi, _ := esp.ParseSPI(<-end.datagrams)
		heard[spi] = true
	}
	if !heard[s.grant.SPI] || !heard[sibling.grant.SPI] {
		t.Errorf("by the stream came %v", heard)
	}
	if n := len(f.received(0)) + len(f.received(1)); n != 0 {
		t.Errorf("%d datagrams came by UDP still", n)
	}
	if got := f.Client.gateways.at(f.Client.gateways.current); got != gatewayAddr(1) {
		t.Errorf("the gateway in use is %v", got)
	}
}

// TestUDPAnswersFirst: the stream that is not needed any more is not used.
func TestUDPAnswersFirst(t *testing.T) {
	f := newFixture(t)
	s := f.slice(0, 1)
	f.deaf(s)
	f.advance(TickEvery, s)
	end := f.opened(0)
	if f.transport.stream != nil {
		t.Error("the stream is in use")
	}
	<-end.Done()
}

// TestBackToUDP: an agent that is asked by UDP, and answers by UDP, brings the
// slices back; what is under way on the stream still comes.
func TestBackToUDP(t *testing.T) {
	f := newFixture(t)
	s := f.slice(0, 1)
	f.deaf(s)
	end := f.opened(0)
	stream := f.transport.stream
	f.received(0)
	f.advance(AskUDPMin, s)
	asked := f.arrived(0, s)
	if len(asked) != 1 {
		t.Fatalf("UDP was asked by %d packets", len(asked))
	}
	echo, ok := probe.EchoSeen(asked[0])
	if !ok {
		t.Fatalf("UDP was asked by %x", asked[0])
	}
	f.ok(f.far[s.key].SendControl(echo))
	f.until("UDP has answered", func() bool { return s.pair.Tried(gatewayAddr(0)) != 0 })
	f.advance(TickEvery)
	if f.transport.stream != nil || len(f.arrived(0, s)) == 0 {
		t.Error("the slice does not speak by UDP at once")
	}
	if ended(stream) {
		t.Error("the stream ended before what was on its way came")
	}
	f.advance(RetireAfter+TickEvery, s)
	<-end.Done()
}

// TestUDPThatDoesNotLast is asked ever less often.
func TestUDPThatDoesNotLast(t *testing.T) {
	f := newFixture(t)
	s := f.slice(0, 1)
	f.deaf(s)
	last := time.Duration(0)
	for range 12 {
		f.opened(0)
		if wait := f.transport.askWait; wait < last || wait < AskUDPMin || wait > AskUDPMax {
			t.Errorf("asked after %v, before after %v", wait, last)
		}
		last = f.transport.askWait
		f.udpHeard(f.config.Now())
		f.deaf(s)
	}
	if last != AskUDPMax {
		t.Errorf("at last every %v", last)
	}
	f.advance(UDPLasting)
	f.opened(0)
	if f.transport.askWait != AskUDPMin {
		t.Errorf("UDP lasted, and is asked every %v", f.transport.askWait)
	}
}

// TestStreamEnds: another one is asked for at once, while UDP is tried.
func TestStreamEnds(t *testing.T) {
	f := newFixture(t)
	s := f.slice(0, 1)
	f.deaf(s)
	end := f.opened(0)
	stream := f.transport.stream
	f.advance(TickEvery, s)
	end.Close()
	<-stream.Done()
	f.received(0)
	f.advance(2 * TickEvery)
	if !f.wanted() || f.transport.stream != nil {
		t.Error("no other stream is asked for")
	}
	if len(f.arrived(0, s)) == 0 {
		t.Error("UDP is not tried")
	}
}

// TestStreamAfterTheEnd: one that was opened while the client said goodbye does not
// outlive it.
func TestStreamAfterTheEnd(t *testing.T) {
	f := newFixture(t)
	near, far := net.Pipe()
	defer far.Close()
	late := framed.New(near, gatewayAddr(0))
	f.Client.events <- streamOpened{late, gatewayAddr(0), nil}
	f.closeStreams()
	if !ended(late) {
		t.Error("the stream is open")
	}
}

// TestSilentStream: its gateway is left like one that is silent by UDP.
func TestSilentStream(t *testing.T) {
	f := newFixture(t)
	s := f.slice(0, 1)
	f.deaf(s)
	f.opened(0)
	f.advance(500 * ms)
	f.connect() // through another gateway
	if f.advance(TickEvery); !f.wanted() || f.transport.stream != nil {
		t.Error("the client stays on a silent stream")
	}
	if got := f.Client.gateways.at(f.Client.gateways.current); got != gatewayAddr(1) {
		t.Errorf("the gateway in use is %v", got)
	}
}

// TestStreamThatDoesNotOpen is tried again, ever less often.
func TestStreamThatDoesNotOpen(t *testing.T) {
	f := newFixture(t)
	f.triedEverLess(f.slice(0, 1), func() {
		streamOpened{nil, gatewayAddr(0), errors.New("refused")}.apply(f.Client)
	})
}

// TestStreamThatEndsAtOnce, as where the gateway has too many, is no better.
func TestStreamThatEndsAtOnce(t *testing.T) {
	f := newFixture(t)
	f.triedEverLess(f.slice(0, 1), func() {
		end := f.opened(0)
		stream := f.transport.stream
		end.Close()
		<-stream.Done()
	})
}

// triedEverLess lets attempts for a stream fail.
func (f *fixture) triedEverLess(s *slice, fail func()) {
	f.Helper()
	f.deaf(s)
	last := time.Duration(0)
	for range 8 {
		fail()
		begin := f.config.Now()
		for !f.wanted() {
			if f.control == nil {
				f.connect()
			}
			f.advance(TickEvery)
		}
		wait := f.config.Now() - begin
		if wait < OpenWaitMin || wait < last || wait > OpenWaitMax+TickEvery {
			f.Errorf("tried again after %v, before after %v", wait, last)
		}
		last = wait
	}
	if last < OpenWaitMax {
		f.Errorf("at last every %v", last)
	}
}

// TestStreamsWhereNothingHelps: gateways take them and no agent answers, by whichever of
// them; then each is tried at once, and from then on ever less often.
func TestStreamsWhereNothingHelps(t *testing.T) {
	f := newFixture(t)
	f.deaf(f.slice(0, 1))
	f.opened(0)
	opened := 1
	for range time.Minute / TickEvery {
		if f.advance(TickEvery); f.wanted() {
			f.opened(opened % f.Client.gateways.count())
			opened++
		}
	}
	if most := f.Client.gateways.count() + 6; opened > most || opened < f.Client.gateways.count() {
		t.Errorf("%d streams were opened in a minute, at most %d", opened, most)
	}
}
