package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// hostSends has the host send a packet to the network behind the mesh, and returns when the
// engine has done with it.
func (f *fixture) hostSends() {
	f.Helper()
	before := f.config.Engine.Stats().Received
	packet := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 77, 0, 16, 10, 9, 0, 1, 0, 7, 0, 7, 0, 8, 0, 0}
	if !f.device.Inject(tun.VnetHeader{}, packet) {
		f.Fatal("the TUN is full")
	}
	f.until("the engine has done with the packet", func() bool {
		now := f.config.Engine.Stats()
		return now.Received != before && now.Balance() == 0
	})
}

// TestWhoIsStuck: a client with packets and without anybody who carries them, and no other.
func TestWhoIsStuck(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fixture, []*slice)
		sends  bool
		stuck  bool
	}{
		"all is well":              {func(*fixture, []*slice) {}, true, false},
		"one slice is left":        {func(f *fixture, s []*slice) { f.forget(s[0]); s[1].condemned = false }, true, false},
		"no slice":                 {func(f *fixture, s []*slice) { f.forget(s[0]); f.forget(s[1]) }, true, true},
		"no slice, and no packet":  {func(f *fixture, s []*slice) { f.forget(s[0]); f.forget(s[1]) }, false, false},
		"none that may be used":    {func(_ *fixture, s []*slice) { s[0].condemned, s[1].condemned = true, true }, true, true},
		"none that answers":        {func(f *fixture, s []*slice) { f.mute(s...) }, true, true},
		"one does not answer":      {func(f *fixture, s []*slice) { f.mute(s[0]) }, true, false},
		"none does, and no packet": {func(f *fixture, s []*slice) { f.mute(s...) }, false, false},
		"before it has a session":  {func(f *fixture, s []*slice) { f.forget(s[0]); f.forget(s[1]); f.session = nil }, true, false},
	} {
		f := newFixture(t)
		f.session, f.dirty = &session{}, true
		f.publishIfDirty()
		f.hostSends() // before there is a slice: that was then
		s := []*slice{f.slice(0, 1), f.slice(1, 1)}
		f.superviseStuck(f.config.Now())
		c.change(f, s)
		f.dirty = true
		f.publishIfDirty()
		f.superviseStuck(f.config.Now())
		if c.sends {
			f.hostSends()
		}
		f.superviseStuck(f.config.Now())
		if stuck, hurries := f.stuck.Load(), len(f.redial) > 0; stuck != c.stuck || hurries != c.stuck {
			t.Errorf("%s: stuck %t, hurries %t", name, stuck, hurries)
		}
		f.clock.Add(int64(ActiveFor))
		if f.superviseStuck(f.config.Now()); f.stuck.Load() {
			t.Errorf("%s: stuck, and nothing was to be sent for long", name)
		}
	}
}

// mute has agents not answer for MuteAfter.
func (f *fixture) mute(all ...*slice) {
	for _, s := range all {
		s.pulse.mute = f.config.Now() - MuteAfter
	}
}

// TestStuckAtOnce: who drops the keys that it sent by is stuck before the dialer can ask, and
// one whose connection to the arbiter stands needs no other.
func TestStuckAtOnce(t *testing.T) {
	f := newFixture(t)
	f.connect()
	f.welcome(protocol.Welcome{Headless: 900})
	s := f.slice(0, 1)
	f.tick()
	f.hostSends()
	if f.asleep(dataplane.StallLimit - 1); s.pair.LastSent() == 0 {
		t.Fatal("nothing was sent")
	}
	f.restart(f.config.Now())
	if !f.stuck.Load() || len(f.redial) != 1 || f.control != nil {
		t.Errorf("stuck %t, %d reasons to dial", f.stuck.Load(), len(f.redial))
	}
	<-f.redial
	f.connect()
	f.stuck.Store(false)
	if f.tick(); !f.stuck.Load() || len(f.redial) != 0 {
		t.Errorf("with a connection: stuck %t, %d reasons to dial", f.stuck.Load(), len(f.redial))
	}
}

// TestStuckClientQueuesOnce: one that cannot send queues at once, even if it has an appointment,
// and has its turns as all others until it is welcomed.
func TestStuckClientQueuesOnce(t *testing.T) {
	for at, want := range map[time.Duration][]string{
		0: {"0s false", "0s true", "3_s true"}, 5 * time.Second: {"0s true", "5s false", "5s true", "3_s true"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			began, asked := time.Now(), []string(nil)
			dial := func(context.Context, string, string) (net.Conn, error) {
				near, far := net.Pipe()
				go func() {
					b := make([]byte, 4096)
					n, _ := far.Read(b)
					took := time.Since(began).Round(time.Second).String()
					if len(took) > 2 {
						took = took[:1] + "_s" // an appointment is kept up to an eighth later
					}
					asked = append(asked, fmt.Sprintf("%s %t", took, bytes.Contains(b[:n], []byte(port.WaitName))))
					if len(asked) == len(want) {
						cancel()
					}
					_, _ = far.Write([]byte{0xF7, 3, 3, 0, 2, 0x0B, 0xB8})
					far.Close()
				}()
				return near, nil
			}
			c := &Client{gateways: gatewayList{all: []netip.AddrPort{way4}}, redial: make(chan haste, 1), failed: make(chan error, 1), config: Config{
				Dial: dial, Wall: time.Now, Now: func() time.Duration { return time.Since(began) },
				Random: rand.Reader, Log: slog.New(slog.DiscardHandler),
			}}
			stick := func() {
				c.stuck.Store(true)
				c.redial <- again
			}
			if at == 0 {
				c.stuck.Store(true)
			} else {
				time.AfterFunc(at, stick)
			}
			time.AfterFunc(15*time.Second, stick)
			if c.keepControl(ctx); !slices.Equal(asked, want) {
				t.Errorf("stuck after %v it asked %q, want %q", at, asked, want)
			}
		})
	}
}

// TestHasteAgainPutsNothingOff: one that has a packet to send each two seconds or so is stuck each
// time anew, and says so each time.
func TestHasteAgainPutsNothingOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		c, b := &Client{redial: make(chan haste, 1), config: Config{Now: func() time.Duration { return time.Since(began) }}}, newBackoff(rand.Reader)
		b.wait, b.most, b.rested = CrowdMax, CrowdMax, false
		ctx, cancel := context.WithTimeout(t.Context(), CrowdMax)
		defer cancel()
		ticker := time.NewTicker(RedialMax/2 - 100*time.Millisecond)
		defer ticker.Stop()
		go func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
					c.redial <- again
				}
			}
		}()
		if c.pause(ctx, &b); time.Since(began) > 2*RedialMax {
			t.Errorf("the next attempt was after %v", time.Since(began))
		}
	})
}

// TestPressingIsOver with the attempt, and allowed again with a welcome.
func TestPressingIsOver(t *testing.T) {
	b := newBackoff(rand.Reader)
	for range 2 { // of one attempt it may be asked again
		if !b.press() || !b.presses {
			t.Error("the first attempt does not queue")
		}
	}
	b.ended(0, nil, os.ErrDeadlineExceeded)
	if queues := b.presses; queues || b.press() || b.presses {
		t.Error("it queues again, and was not welcomed")
	}
	b.ended(0, nil, errors.New("refused"))
	if ends(&b, Lasting, nil); !b.press() || !b.presses {
		t.Error("it does not queue, and was welcomed")
	}
}
