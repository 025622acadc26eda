package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/port"
)

var (
	way4 = netip.MustParseAddrPort("192.0.2.1:6484")
	way6 = netip.MustParseAddrPort("[2001:db8::1]:6484")
)

// TestWays: two at most, whatever the list.
func TestWays(t *testing.T) {
	next4, next6 := netip.MustParseAddrPort("192.0.2.2:6484"), netip.MustParseAddrPort("[2001:db8::2]:6484")
	g := gatewayList{all: []netip.AddrPort{way4, way6, next4, next6}}
	for way, other := range map[netip.AddrPort]netip.AddrPort{way4: way6, way6: next4, next4: next6, next6: way4} {
		if got := g.ways(way); len(got) != 2 || got[0] != way || got[1] != other {
			t.Errorf("beside %v: %v, want %v", way, got, other)
		}
	}
	if got := (&gatewayList{all: []netip.AddrPort{way4, next4}}).ways(next4); len(got) != 1 {
		t.Errorf("one family: %v", got)
	}
}

// TestFamiliesTakeTurns: the way that let us in is followed by its like, and that
// by the other family, however many there are of each.
func TestFamiliesTakeTurns(t *testing.T) {
	var pushed []netip.AddrPort
	for i := range uint16(5) {
		pushed = append(pushed, netip.AddrPortFrom(way4.Addr(), i+1), netip.AddrPortFrom(way6.Addr(), i+1))
	}
	g := gatewayList{all: []netip.AddrPort{way4}}
	g.replace(pushed, pushed[7]) // the fourth of IPv6
	for i, want := range []int{7, 9, 8, 1, 0, 3, 2, 5, 4, 6, 7} {
		if got := g.at(g.current + i); got != pushed[want] {
			t.Errorf("%d: %v, want %v", i, got, pushed[want])
		}
	}
	g.replace(pushed[:3], netip.MustParseAddrPort("192.0.2.9:9")) // not among them
	if got := g.at(g.current); got != pushed[0] {
		t.Errorf("instead of one that is gone: %v", got)
	}
}

// TestFirstLoginGoesOn: a client that knows its profile alone tries the next gateways
// beside one whose host does not answer, and more slowly beside one that took its
// connection. Who resumes was told which are alive.
func TestFirstLoginGoesOn(t *testing.T) {
	var all []netip.AddrPort
	for i := range byte(4) {
		all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 6484))
	}
	for name, c := range map[string]struct {
		resume *resumption
		host   func(ctx context.Context) (net.Conn, error)
		want   []time.Duration // when each of the ways is tried
	}{
		"hosts without power":         {nil, dark, []time.Duration{0, DialStagger, 2 * DialStagger}},
		"hosts without a daemon":      {nil, refusing, []time.Duration{0, 0, 0}},
		"hosts that stand still":      {nil, still, []time.Duration{0, DialStagger + TakenPatience, 2*DialStagger + TakenPatience}},
		"gateways without an arbiter": {nil, closing, []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond}},
		"a session that is resumed":   {&resumption{}, dark, []time.Duration{0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var mu sync.Mutex
			began, tried := time.Now(), []string(nil)
			client := &Client{gateways: gatewayList{all: all}, config: Config{Dial: func(ctx context.Context, _, to string) (net.Conn, error) {
				mu.Lock()
				tried = append(tried, fmt.Sprint(to, " ", time.Since(began)))
				mu.Unlock()
				return c.host(ctx)
			}, Wall: time.Now}}
			if _, _, err := client.dial(t.Context(), all[1], c.resume); err == nil {
				t.Errorf("%s: connected", name)
			}
			var want []string
			for i, at := range c.want {
				want = append(want, fmt.Sprint(all[1+i], " ", at))
			}
			if !slices.Equal(tried, want) {
				t.Errorf("%s: tried %v, want %v", name, tried, want)
			}
		})
	}
}

func dark(ctx context.Context) (net.Conn, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func refusing(context.Context) (net.Conn, error) { return nil, errors.New("refused") }

// still takes a connection as a kernel does, and says nothing.
func still(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		for b := make([]byte, 4096); ; {
			if _, err := far.Read(b); err != nil {
				return
			}
		}
	}()
	return near, nil
}

// stalling is a gateway, or whoever is on the way to it, that answers a byte and no more.
func stalling(ctx context.Context) (net.Conn, error) {
	near, err := still(ctx)
	return &begun{Conn: near}, err
}

// begun is a connection over which a first byte came, of a record of TLS.
type begun struct {
	net.Conn
	read bool
}

func (b *begun) Read(p []byte) (int, error) {
	if b.read {
		return b.Conn.Read(p)
	}
	b.read, p[0] = true, 22
	return 1, nil
}

// queueing says a first byte when whoever comes waited at the gateway for its slot, for an
// arbiter to be elected, and for a slot there, each for as long as they may.
func queueing(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	time.AfterFunc(port.WaitTimeout+port.RelayWait+port.WaitTimeout, func() { _, _ = far.Write([]byte{22}) })
	return near, nil
}

// TestQueueEnds: whoever takes no appointment waits longer at each, and for what it waits.
func TestQueueEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &Client{config: Config{Wall: time.Now, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) { return still(ctx) }}}
		began := time.Now()
		_, err := client.connect(t.Context(), way4, true, func() {})
		if took := time.Since(began); !errors.Is(err, errMute) || took < 2*port.QueueTimeout+port.RelayWait || took >= AttemptWithin {
			t.Errorf("an attempt takes %v: %v", took, err)
		}
	})
}

// TestAttemptEnds: whatever the other end does, and that of a stream as soon as ever: where UDP
// is blocked nothing passes until the next gateway is tried.
func TestAttemptEnds(t *testing.T) {
	for name, c := range map[string]struct {
		host            func(context.Context) (net.Conn, error)
		attempt, stream time.Duration
	}{
		"a host without power":   {dark, DialTimeout, DialTimeout},
		"one that stands still":  {still, AnswerWithin, DialTimeout},
		"one with two queues":    {queueing, AttemptWithin, DialTimeout},
		"one that says one byte": {stalling, AttemptWithin, DialTimeout},
	} {
		synctest.Test(t, func(t *testing.T) {
			client := &Client{gateways: gatewayList{all: []netip.AddrPort{way4}}}
			client.config = Config{Wall: time.Now, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				if a := client.dialing.Load(); a == nil || a.gateway != way4 {
					t.Errorf("%s: the attempt is %+v", name, a)
				}
				return c.host(ctx)
			}}
			began := time.Now()
			_, _, err := client.dial(t.Context(), way4, &resumption{})
			if err == nil || time.Since(began) != c.attempt {
				t.Errorf("%s: an attempt takes %v: %v", name, time.Since(began), err)
			}
			b := newBackoff(rand.Reader)
			ends(&b, 0, nil) // of the session that is resumed
			if b.ended(0, nil, err); b.most != RedialMax {
				t.Errorf("%s: it waits up to %v, as one of a crowd", name, b.most)
			}
			began = time.Now()
			if _, err := client.openStream(t.Context(), way4); err == nil || time.Since(began) != c.stream {
				t.Errorf("%s: a stream takes %v: %v", name, time.Since(began), err)
			}
		})
	}
}

// closing is a gateway that finds no arbiter.
func closing(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	time.AfterFunc(100*time.Millisecond, func() { far.Close() })
	go func() { _, _ = far.Read(make([]byte, 4096)) }()
	return near, nil
}

// deadlined is a connection that notes what was asked of it.
type deadlined struct {
	net.Conn
	at    []time.Time
	bytes []int // of each read
}

func (d *deadlined) SetReadDeadline(at time.Time) error { d.at = append(d.at, at); return nil }

func (d *deadlined) Read([]byte) (n int, err error) {
	n, d.bytes = d.bytes[0], d.bytes[1:]
	return n, nil
}

// TestAnsweredAttemptGoesOn: the other end has a time to say something first, and none for
// what it says then.
func TestAnsweredAttemptGoesOn(t *testing.T) {
	below := &deadlined{bytes: []int{0, 1, 1}}
	conn := hearing(below, AnswerWithin)
	if len(below.at) != 1 || time.Until(below.at[0]) > AnswerWithin || time.Until(below.at[0]) < AnswerWithin-time.Minute {
		t.Fatalf("deadlines %v", below.at)
	}
	for i, want := range []int{1, 2, 2} {
		if _, err := conn.Read(nil); err != nil || len(below.at) != want {
			t.Errorf("after %d reads: %v, %v", i+1, below.at, err)
		}
	}
	if !below.at[1].IsZero() {
		t.Error("what comes behind the first byte has a deadline")
	}
}
