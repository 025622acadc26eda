package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/port"
)

// TestAppointmentIsKept: a client that is told when to come again comes then, little later,
// however it hurries; only another network of its own is reason to come at once. What it is
// told is bounded, and no failure: it waits no longer after it.
func TestAppointmentIsKept(t *testing.T) {
	for told, least := range map[time.Duration]time.Duration{
		0: RedialMin, 10 * time.Second: 10 * time.Second, port.MaxWait: port.MaxWait, time.Hour: port.MaxWait,
	} {
		b := newBackoff(rand.Reader)
		ends(&b, Lasting, nil)
		b.ended(0, nil, &port.Wait{In: told})
		if b.atOnce(again) || b.atOnce(elsewhere) {
			t.Errorf("told %v: it comes at once", told)
		}
		wait := b.next()
		if first, rest := b.rounds(wait); wait < least || wait > least+least/8 || wait > port.MaxWait || first != wait || rest != 0 {
			t.Errorf("told %v: waits %v, %v of it at first", told, wait, first)
		}
		if b.told = 0; b.expected() != 0 {
			t.Errorf("told %v: an appointment counts as a failure", told)
		}
		b.ended(0, nil, &port.Wait{In: told})
		if !b.atOnce(moved) || b.told != 0 {
			t.Errorf("told %v: another network is no reason to come", told)
		}
	}
}

// TestNoKeysAreNoHaste: who lost all keys, as all clients have when all nodes were restarted,
// keeps its appointment as well.
func TestNoKeysAreNoHaste(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Client{redial: make(chan haste, 1), config: Config{Now: func() time.Duration { return 0 }}}
		b := newBackoff(rand.Reader)
		ends(&b, 0, os.ErrDeadlineExceeded)
		b.ended(0, nil, &port.Wait{In: 20 * time.Second})
		c.redial <- again
		began := time.Now()
		var meanwhile atomic.Bool
		time.AfterFunc(10*time.Second, func() { meanwhile.Store(c.appointed.Load() != nil) })
		if other := c.pause(t.Context(), &b); other || time.Since(began) < 20*time.Second || b.told != 0 {
			t.Errorf("came after %v, elsewhere %t", time.Since(began), other)
		}
		if !meanwhile.Load() || c.appointed.Load() != nil {
			t.Errorf("it has an appointment meanwhile: %t, and after it: %t", meanwhile.Load(), c.appointed.Load() != nil)
		}
	})
}

// telling is a gateway behind which a crowd waits.
func telling(hundredths uint16) func(context.Context) (net.Conn, error) {
	return func(context.Context) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			b := make([]byte, 4096)
			_, _ = far.Read(b)
			_, _ = far.Write([]byte{0xF7, 3, 3, 0, 2, byte(hundredths >> 8), byte(hundredths)})
			far.Close()
		}()
		return near, nil
	}
}

// TestHasteLeavesAnAppointmentWhereItIs: with no keys, or a gateway left, a client comes by
// the gateway that gave it, and once it was told often enough by the next one in any case.
func TestHasteLeavesAnAppointmentWhereItIs(t *testing.T) {
	for _, why := range []haste{again, elsewhere} {
		synctest.Test(t, func(t *testing.T) {
			c, b := &Client{redial: make(chan haste, 1), config: Config{Now: func() time.Duration { return 0 }}}, newBackoff(rand.Reader)
			for n := 1; n <= MaxAppointments; n++ {
				b.ended(0, nil, &port.Wait{In: time.Second})
				c.redial <- why
				if other := c.pause(t.Context(), &b); other != (n == MaxAppointments) {
					t.Errorf("haste %d, appointment %d: elsewhere %t", why, n, other)
				}
			}
		})
	}
}

// TestAppointmentIsHeard: and nobody else is asked then, for all are as busy.
func TestAppointmentIsHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all []netip.AddrPort
		for i := range byte(4) {
			all = append(all, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, i}), 6484))
		}
		dials, gateway := 0, telling(1_200)
		client := &Client{gateways: gatewayList{all: all}, config: Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			dials++
			return gateway(ctx)
		}, Wall: time.Now}}
		_, _, err := client.dial(t.Context(), all[0], nil)
		if wait := (*port.Wait)(nil); !errors.As(err, &wait) || wait.In != 12*time.Second || dials != 1 {
			t.Errorf("told %v by %d gateways", err, dials)
		}
		client.queues = true // it has waited often enough
		if _, _, err := client.dial(t.Context(), all[0], nil); err == nil || errors.As(err, new(*port.Wait)) {
			t.Errorf("who queues is told %v", err)
		}
	})
}

// TestFirstLoginWaitsForItsTurn, which is not counted, for AppointedMost in all.
func TestFirstLoginWaitsForItsTurn(t *testing.T) {
	p, now := &patience{}, time.Duration(0)
	for range AppointedMost / (30 * time.Second) {
		p.appointed(30 * time.Second)
		now += 30 * time.Second
		if p.out(now, os.ErrDeadlineExceeded, 1, 1) {
			t.Fatalf("gave up after %v", now)
		}
	}
	if p.appointed(port.MaxWait); !p.out(now+FirstWithin, os.ErrDeadlineExceeded, 1, 1) {
		t.Error("whoever is on the way can have it wait for ever")
	}
}

// TestAppointmentsKeepNobodyAway: whoever is on the way to one gateway can tell a client to
// come again whenever it comes. After MaxAppointments it asks another one.
func TestAppointmentsKeepNobodyAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6484"), netip.MustParseAddrPort("192.0.2.2:6484")}
		ctx, cancel := context.WithCancel(t.Context())
		began, asked := time.Now(), []string(nil)
		dial := func(_ context.Context, _, to string) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				b := make([]byte, 4096)
				n, _ := far.Read(b)
				asked = append(asked, fmt.Sprintf("%s %t", to, bytes.Contains(b[:n], []byte(port.WaitName))))
				if len(asked) > MaxAppointments {
					cancel()
				}
				_, _ = far.Write([]byte{0xF7, 3, 3, 0, 2, 0x0B, 0xB8})
				far.Close()
			}()
			return near, nil
		}
		c := &Client{gateways: gatewayList{all: all}, redial: make(chan haste, 1), failed: make(chan error, 1), config: Config{
			Dial: dial, Wall: time.Now, Now: func() time.Duration { return time.Since(began) },
			Random: rand.Reader, Log: slog.New(slog.DiscardHandler),
		}}
		c.keepControl(ctx)
		want := append(slices.Repeat([]string{"192.0.2.1:6484 true"}, MaxAppointments), "192.0.2.2:6484 true")
		if took := time.Since(began); !slices.Equal(asked[:min(len(asked), len(want))], want) || took > AppointedMost*9/8+time.Second {
			t.Errorf("after %v it had asked %v", took, asked)
		}
	})
}

// TestAppointmentsLastNoLonger than AppointedMost in all, whatever parts of it are told.
func TestAppointmentsLastNoLonger(t *testing.T) {
	for _, first := range []time.Duration{30 * time.Second, 59 * time.Second, AppointedMost - time.Second} {
		b, waited := newBackoff(rand.Reader), time.Duration(0)
		for in := first; !b.toldEnough(); in = port.MaxWait {
			b.ended(0, nil, &port.Wait{In: in})
			waited += b.told
		}
		if waited > AppointedMost+RedialMin {
			t.Errorf("told %v at first, it waits %v before it asks another", first, waited)
		}
		if b.ended(0, nil, &port.Wait{In: first}); b.told != first || b.toldEnough() {
			t.Errorf("told %v by another, it comes in %v, and goes on: %t", first, b.told, b.toldEnough())
		}
	}
}

// TestAppointmentsAgain: each gateway's word counts anew, and others see no appointment where
// nobody gave one.
func TestAppointmentsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, b := &Client{redial: make(chan haste, 1), config: Config{Now: func() time.Duration { return 0 }}}, newBackoff(rand.Reader)
		for n := 1; n <= 2*MaxAppointments; n++ {
			b.ended(0, nil, &port.Wait{In: time.Second})
			if other := c.pause(t.Context(), &b); other != (n%MaxAppointments == 0) {
				t.Errorf("after %d appointments it goes elsewhere: %t", n, other)
			}
		}
		if b.ended(0, nil, os.ErrDeadlineExceeded); b.toldEnough() {
			t.Error("it leaves a gateway for another one's word")
		}
		if b.ended(0, nil, &port.Wait{In: port.MaxWait}); !b.toldEnough() {
			t.Error("it waits for as long as it is told, and takes another appointment there")
		}
	})
}

// waiting is a client at rest whose agents are silent by every gateway, and that was told when
// its turn is.
func waiting(t *testing.T) (f *fixture, s []*slice) {
	t.Helper()
	f, s = calmed(t)
	f.looks(ProbeIdle + 2*ProbeMute)
	now := f.config.Now()
	f.Client.appointed.Store(&appointment{since: now, until: now + port.MaxWait})
	f.looks(AskedFirst + 2*LookEvery)
	for _, one := range s {
		f.asked(one)
	}
	f.transport.opening = false // the stream that it wanted before came to nothing
	select {
	case <-f.transport.wanted:
	default:
	}
	return f, s
}

// TestWhoWaitsIsQuiet: who was told when its turn is asks one agent each ParkedTurn until then,
// leaves no gateway, and wants no stream.
func TestWhoWaitsIsQuiet(t *testing.T) {
	f, s := waiting(t)
	left := f.Client.gateways.inVain
	if n := f.looks(30 * time.Second); n > 31 {
		t.Errorf("it looked %d times in 30 s", n)
	}
	f.slice(2, 1).retireAt = 9 * time.Hour // nobody asks this one
	f.looks(2*ParkedTurn - 30*time.Second)
	for _, one := range s {
		if n := len(f.asked(one)); n != 1 {
			t.Errorf("slice %d was asked %d times", one.key.number, n)
		}
	}
	if f.Client.gateways.inVain != left || f.transport.opening {
		t.Errorf("it left %d gateways, opens a stream: %t", f.Client.gateways.inVain-left, f.transport.opening)
	}
}

// TestWhatEndsTheQuiet: the appointed time, a packet to send, an answer; and who was told a
// moment ago asks first whether it is the arbiter alone that is busy.
func TestWhatEndsTheQuiet(t *testing.T) {
	for name, change := range map[string]func(*fixture, *slice){
		"its turn comes": func(f *fixture, _ *slice) { f.Client.appointed.Store(nil) },
		"it is over":     func(f *fixture, _ *slice) { f.Client.appointed.Store(&appointment{since: 1, until: f.config.Now()}) },
		"it is in use":   func(f *fixture, _ *slice) { f.session.ready = false }, // as one that was never at rest
		"another word": func(f *fixture, _ *slice) {
			f.Client.appointed.Store(&appointment{since: f.config.Now(), until: f.config.Now() + port.MaxWait})
		},
	} {
		f, s := waiting(t)
		f.looks(2 * ProbeMute)
		change(f, s[0])
		f.looks(AskedFirst)
		if len(f.asked(s[1])) == 0 {
			t.Errorf("%s: it does not ask", name)
		}
	}
	f, s := waiting(t)
	f.looks(2 * ProbeMute)
	now := f.config.Now()
	f.Client.appointed.Store(&appointment{since: now, until: now + port.MaxWait, again: true})
	f.asked(s[0])
	f.asked(s[1])
	if f.looks(AskedFirst); len(f.asked(s[0]))+len(f.asked(s[1])) > 1 {
		t.Error("told once more it asks anew, not in turn")
	}
	f, s = waiting(t)
	f.looks(ProbeMute, s[0])
	if len(f.asked(s[1])) == 0 {
		t.Error("one agent answers: it does not ask the other")
	}
}

// TestLostAnswerIsNoSilence: one packet that is lost while the client waits for its turn is
// asked for again, as ever. Ten thousand wait where an arbiter died and all agents are well.
func TestLostAnswerIsNoSilence(t *testing.T) {
	f, s := calmed(t)
	now := f.config.Now()
	f.Client.appointed.Store(&appointment{since: now, until: now + port.MaxWait})
	f.looks(AskedFirst+LookEvery, s...)
	for _, one := range s {
		f.asked(one)
	}
	for range 2 * ProbeIdle / TickEvery {
		if f.looks(TickEvery, s[1]); len(f.asked(s[0])) > 0 {
			break // this one is lost
		}
	}
	f.looks(3*Unhurried*ProbeActive, s[1])
	if len(f.asked(s[0])) == 0 {
		t.Error("it is not asked again")
	}
	f.looks(2*time.Second, s...)
	if s[0].condemned || !s[0].usable() {
		t.Error("it is condemned for one packet")
	}
}

// TestWhoIsToldAsksFirst: a client that nobody answered for long, as where its network was away,
// hears within AskedFirst that only the arbiter is busy, whenever it asked last.
func TestWhoIsToldAsksFirst(t *testing.T) {
	for wait := range 5 {
		f, s := calmed(t)
		f.looks(ProbeIdle + 12*ProbeMute)
		for was := s[0].pulse.sequence; s[0].pulse.sequence == was; {
			f.looks(TickEvery)
		}
		f.looks(time.Duration(wait) * time.Second)
		now, before := f.config.Now(), []uint32{s[0].pulse.sequence, s[1].pulse.sequence}
		f.Client.appointed.Store(&appointment{since: now, until: now + port.MaxWait})
		f.looks(AskedFirst)
		for i, one := range s {
			if n := one.pulse.sequence - before[i]; n == 0 || n > 3 {
				t.Errorf("told %d s after it asked it asks slice %d %d times", wait, one.key.number, n)
			}
		}
	}
}

// TestAppointmentPassesAsleep: the time that a host sleeps is waited, too, though timers stand
// still in it; who wakes has no keys.
func TestAppointmentPassesAsleep(t *testing.T) {
	for name, c := range map[string]struct{ slept, left time.Duration }{
		"longer than the wait": {time.Hour, 0}, "for a part of it": {60 * time.Second, 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, slept := time.Now(), new(atomic.Int64)
				client := &Client{redial: make(chan haste, 1), config: Config{Now: func() time.Duration { return time.Since(began) + time.Duration(slept.Load()) }}}
				b := newBackoff(rand.Reader)
				b.ended(0, nil, &port.Wait{In: 100 * time.Second})
				var woke time.Time
				time.AfterFunc(5*time.Second, func() {
					slept.Store(int64(c.slept))
					woke = time.Now()
					client.redial <- again
				})
				client.pause(t.Context(), &b)
				if took := time.Since(woke); took > c.left+100*time.Second/8 {
					t.Errorf("it comes %v after it woke", took)
				}
			})
		})
	}
}

// TestToldOnceMore: what follows on an appointment is known as such, and what another gateway, or
// another end of an attempt, lies between is not.
func TestToldOnceMore(t *testing.T) {
	wait := &port.Wait{In: time.Second}
	for name, c := range map[string]struct {
		ends  []error
		again bool
	}{
		"once":                {[]error{wait}, false},
		"twice":               {[]error{wait, wait}, true},
		"after another end":   {[]error{wait, io.EOF, wait}, false},
		"at the next gateway": {[]error{wait, wait, wait, wait, wait}, false},
		"and there once more": {[]error{wait, wait, wait, wait, wait, wait}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			client := &Client{redial: make(chan haste, 1), config: Config{Now: func() time.Duration { return 0 }}}
			b := newBackoff(rand.Reader)
			for _, err := range c.ends {
				b.ended(0, nil, err)
			}
			ctx, leave := context.WithCancel(t.Context())
			go client.pause(ctx, &b)
			synctest.Wait()
			a := client.appointed.Load()
			if leave(); a == nil || a.again != c.again {
				t.Errorf("%s: %+v", name, a)
			}
		})
	}
}
