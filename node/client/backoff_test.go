package client

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// ends lets a session's connection be welcomed and end after a time.
func ends(b *backoff, lasted time.Duration, err error) {
	b.ended(time.Hour+lasted, &resumption{since: time.Hour}, err)
}

// waits is how long each of the next waits would be at most, and checks the jitter.
func waits(t *testing.T, b *backoff, n int, between func()) (all []time.Duration) {
	t.Helper()
	for range n {
		between()
		before := min(b.wait, b.most)
		if got := b.next(); got < before/2 || got >= before {
			t.Errorf("waits %v, want a part of %v", got, before)
		}
		all = append(all, before)
	}
	return all
}

// TestBackoffGrowsUntilAConnectionLasts: a welcome alone is no reason to come back fast.
func TestBackoffGrowsUntilAConnectionLasts(t *testing.T) {
	silent, refused := fmt.Errorf("read: %w", os.ErrDeadlineExceeded), &Refusal{protocol.Refused{Code: protocol.RefusedRetry}}
	for name, c := range map[string]struct {
		between func(*backoff)
		most    time.Duration
	}{
		"welcomed and lost":      {func(b *backoff) { ends(b, Lasting-1, os.ErrClosed) }, CrowdMax},
		"reached and unanswered": {func(b *backoff) { b.ended(0, nil, silent) }, CrowdMax},
		"told to try again":      {func(b *backoff) { b.ended(0, nil, refused) }, CrowdMax},
		"not reached":            {func(b *backoff) { b.ended(0, nil, context.DeadlineExceeded) }, RedialMax},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackoff(rand.Reader)
			ends(&b, 0, nil) // of the session that it opened
			if all := waits(t, &b, 10, func() { c.between(&b) }); all[0] != RedialMin || all[1] != 2*RedialMin || all[9] != c.most {
				t.Errorf("waits %v", all)
			}
			if b.atOnce(elsewhere) || b.atOnce(again) {
				t.Error("comes back at once")
			}
			if ends(&b, Lasting, nil); b.wait != RedialMin || !b.atOnce(elsewhere) || b.atOnce(again) {
				t.Error("a connection that lasted is not made again at once, once")
			}
		})
	}
}

// TestBackoffOfAFirstLogin: somebody waits for it.
func TestBackoffOfAFirstLogin(t *testing.T) {
	b := newBackoff(rand.Reader)
	all := waits(t, &b, 10, func() { b.ended(0, nil, os.ErrDeadlineExceeded) })
	if all[9] != FirstRedialMax {
		t.Errorf("waits %v", all)
	}
	if ends(&b, 0, nil); b.wait != RedialMin || !b.atOnce(again) {
		t.Error("the session that it opened begins with its waits")
	}
}

// TestOwnNetworkIsNoCrowd: a host that has another network is back by it at once, however
// often it was in vain on the one before.
func TestOwnNetworkIsNoCrowd(t *testing.T) {
	f := newFixture(t)
	b := newBackoff(rand.Reader)
	ends(&b, 0, nil)
	waits(t, &b, 10, func() { ends(&b, 0, nil) })
	f.hurry(moved)
	began := time.Now()
	if f.pause(t.Context(), &b) || time.Since(began) > CrowdMax/4 || b.wait != RedialMin {
		t.Errorf("back after %v, the next wait %v", time.Since(began), b.wait)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, cancel)
	b.wait, b.most, b.rested = CrowdMax, CrowdMax, false
	f.hurry(elsewhere)
	if !f.pause(ctx, &b) || ctx.Err() == nil {
		t.Error("a gateway that is left makes a crowd hurry")
	}
}

// TestCrowdKeepsItsConnection: who would wait for the next one for longer than silence
// is borne does not end the one it has for slices that are silent.
func TestCrowdKeepsItsConnection(t *testing.T) {
	for wait, kept := range map[time.Duration]bool{0: false, RedialMin: false, loop.ClientSilence: false, CrowdMax: true} {
		f := newFixture(t)
		f.connect()
		s := f.slice(0, 1)
		f.nextWait.Store(int64(wait))
		f.control.since = f.config.Now()
		f.ask(s, f.config.Now())
		if f.advance(400 * ms); (f.control != nil) != kept || (len(f.redial) == 0) != kept {
			t.Errorf("before a wait of %v: kept %v, %d asked for", wait, f.control != nil, len(f.redial))
		}
		if path, _ := s.pair.Path(); path.Remote != gatewayAddr(1) {
			t.Errorf("the slice goes through %v", path.Remote)
		}
		if f.control == nil {
			continue
		}
		f.clock.Add(int64(Lasting))
		f.leaveGateway(f.config.Now(), "back to the first")
		f.hears(s)
		if f.leaveGateway(f.config.Now(), "and on"); f.control != nil {
			t.Error("one that has lasted is kept, though another would be made at once")
		}
	}
}

// TestWithoutKeysIsNoCrowd: nothing passes until this client is back.
func TestWithoutKeysIsNoCrowd(t *testing.T) {
	f := newFixture(t)
	b := newBackoff(rand.Reader)
	b.wait, b.most, b.rested = CrowdMax, CrowdMax, false
	f.hurry(again)
	began := time.Now()
	if other := f.pause(t.Context(), &b); other || time.Since(began) < RedialMax/2 || time.Since(began) > CrowdMax/3 || b.wait != CrowdMax {
		t.Errorf("back after %v, through another gateway: %v", time.Since(began), other)
	}
}

// TestLastSliceIsNoCrowd: a client that all but one of its agents left, and whose arbiters die
// one after the other, is back in seconds; all others take the time that a crowd needs, and
// so does it where the arbiter is at its limit.
func TestLastSliceIsNoCrowd(t *testing.T) {
	silent := fmt.Errorf("read: %w", os.ErrDeadlineExceeded)
	for name, c := range map[string]struct {
		lasted    time.Duration
		err       error
		slices    int
		condemned bool
		offered   bool
		hurries   bool
	}{
		"one is left":            {9 * time.Second, io.EOF, 2, true, false, true},
		"two are left":           {9 * time.Second, io.EOF, 3, true, false, false},
		"it had but one":         {9 * time.Second, io.EOF, 1, false, false, false},
		"another is on its way":  {9 * time.Second, io.EOF, 2, true, true, false},
		"the arbiter was silent": {9 * time.Second, silent, 2, true, false, false},
		"it was lost at once":    {time.Second, io.EOF, 2, true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			for n := range c.slices {
				f.slice(uint8(n), 1).condemned = c.condemned && n == 0
			}
			if c.offered {
				f.slice(0, 2).confirmed = false
			}
			f.superviseControl(f.config.Now())
			synctest.Test(t, func(t *testing.T) {
				f.redial = make(chan haste, 1) // of the bubble
				b := newBackoff(rand.Reader)
				ends(&b, 0, nil)
				for b.wait < CrowdMax {
					ends(&b, c.lasted, c.err)
					b.next()
				}
				ends(&b, c.lasted, c.err)
				began := time.Now()
				f.pause(t.Context(), &b)
				if took := time.Since(began); took > RedialMax == c.hurries || took > CrowdMax || !c.hurries && took < CrowdMax/2 {
					t.Errorf("waited for %v", took)
				}
			})
		})
	}
}

// TestWelcomeIsWaitedForWhileTheArbiterBeats, longer than for one that says nothing: what
// it has done by then would be done again.
func TestWelcomeIsWaitedForWhileTheArbiterBeats(t *testing.T) {
	for name, beats := range map[string]bool{"beats": true, "nothing": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			gateway, _ := f.arbiterThat(func(conn *protocol.Conn[protocol.Client]) {
				const every = AliveWithin / 8
				at := time.NewTicker(every)
				defer at.Stop()
				for range AliveWithin/every + 4 {
					if beats && conn.Beat() != nil {
						return
					}
					<-at.C
				}
				_ = conn.Write(&protocol.Client{Welcome: &protocol.Welcome{}})
			})
			ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
			defer cancel()
			next, err := f.serveControl(ctx, gateway, nil, &patience{})
			if (next != nil) != beats {
				t.Errorf("welcomed: %v, %v", next != nil, err)
			}
		})
	}
}
