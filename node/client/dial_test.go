package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	way4 = netip.MustParseAddrPort("192.0.2.1:6484")
	way6 = netip.MustParseAddrPort("[2001:db8::1]:6484")
)

// path is how a way behaves: it leads after a time, or fails then.
type path struct {
	after time.Duration
	fails bool
}

// race races both ways and gives who won after how long; every attempt has ended.
func (p path) race(t *testing.T, second path) (won netip.AddrPort, took time.Duration, tried []netip.AddrPort, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // protects tried and open
		open := map[netip.AddrPort]net.Conn{}
		begin := time.Now()
		r, raceErr := race(t.Context(), []netip.AddrPort{way4, way6}, func(ctx context.Context, way netip.AddrPort) reached {
			mu.Lock()
			tried = append(tried, way)
			mu.Unlock()
			how := map[netip.AddrPort]path{way4: p, way6: second}[way]
			select {
			case <-ctx.Done():
				return reached{gateway: way, err: ctx.Err()}
			case <-time.After(how.after):
			}
			if how.fails {
				return reached{gateway: way, err: errors.New(way.String() + " is shut")}
			}
			near, far := net.Pipe()
			mu.Lock()
			open[way] = far
			mu.Unlock()
			return reached{gateway: way, raw: tls.Client(near, nil)}
		})
		won, took, err = r.gateway, time.Since(begin), raceErr
		for way, far := range open {
			if way != won {
				far.SetReadDeadline(time.Now().Add(time.Second))
				if _, err := far.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
					t.Errorf("the connection through %v stays open: %v", way, err)
				}
			}
			far.Close()
		}
	})
	return won, took, tried, err
}

// A family that does not work costs DialStagger, one that fails nothing, and
// one that works is not raced at all.
func TestRace(t *testing.T) {
	const quick, slow, never = 20 * time.Millisecond, 300 * time.Millisecond, time.Hour
	for name, c := range map[string]struct {
		first, second path
		won           netip.AddrPort
		took          time.Duration
		tried         int
	}{
		"first leads":            {path{after: quick}, path{after: quick}, way4, quick, 1},
		"first is a black hole":  {path{after: never}, path{after: quick}, way6, DialStagger + quick, 2},
		"first is refused":       {path{quick, true}, path{after: quick}, way6, 2 * quick, 2},
		"first is slow and wins": {path{after: slow}, path{after: never}, way4, slow, 2},
		"second is refused":      {path{after: slow}, path{quick, true}, way4, slow, 2},
		"both lead at once":      {path{after: DialStagger + quick}, path{after: quick}, netip.AddrPort{}, DialStagger + quick, 2},
	} {
		won, took, tried, err := c.first.race(t, c.second)
		if err != nil || c.won.IsValid() && won != c.won || took != c.took || len(tried) != c.tried {
			t.Errorf("%s: %v after %v, tried %v, %v", name, won, took, tried, err)
		}
	}
	_, _, _, err := path{quick, true}.race(t, path{slow, true})
	if err == nil || !strings.Contains(err.Error(), way4.String()) || !strings.Contains(err.Error(), way6.String()) {
		t.Errorf("the error names not both ways: %v", err)
	}
}

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
