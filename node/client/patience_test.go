package client

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestPatience: a first login is tried for FirstWithin, however often; another
// mesh at every gateway ends it at once.
func TestPatience(t *testing.T) { // I10
	p := patience{since: time.Minute}
	closed, other := errors.New("EOF"), fmt.Errorf("tls: %w", pki.ErrAuthority)
	for _, c := range []struct {
		after time.Duration
		err   error
		tries int
		out   bool
	}{
		{0, closed, 1, false},
		{15 * time.Second, closed, 1000, false},
		{FirstWithin - 1, closed, 3, false},
		{FirstWithin, closed, 1, true},
		{0, other, 1, false}, // the other of two gateways may be the right one
		{0, other, 2, true},
	} {
		if got := p.out(time.Minute+c.after, c.err, c.tries, 2); got != c.out {
			t.Errorf("%+v: gave up: %t", c, got)
		}
	}
}

// TestWhatIsNotTriedAgain: a no that stands, and what is wrong on this side.
func TestWhatIsNotTriedAgain(t *testing.T) {
	prompt := errors.New("nobody answered the prompt")
	if got := finalRefusal(fmt.Errorf("login: %w", loginError{prompt}), nil); got != prompt {
		t.Errorf("a prompt that failed: %v", got)
	}
	for code, final := range map[string]bool{
		protocol.RefusedAuth: true, protocol.RefusedPolicy: true, protocol.RefusedCapacity: true, protocol.RefusedRetry: false,
	} {
		if got := finalRefusal(&Refusal{protocol.Refused{Code: code, Wait: 8}}, nil); (got != nil) != final {
			t.Errorf("%s: %v", code, got)
		}
	}
}

// TestWaitingIsSaidOnce, to the user or to the log, however often it is tried.
func TestWaitingIsSaidOnce(t *testing.T) {
	for _, told := range []bool{false, true} {
		f := newFixture(t)
		var log bytes.Buffer
		f.config.Log = slog.New(slog.NewTextHandler(&log, nil))
		said := 0
		if told {
			f.config.Waiting = func(error, time.Duration) { said++ }
		}
		p := patience{since: f.config.Now()}
		for range 3 {
			f.waiting(&p, errors.New("refused"))
		}
		if lines := strings.Count(log.String(), "refused"); said+lines != 1 || (said == 1) != told {
			t.Errorf("told %d times, and %d lines of the log", said, lines)
		}
	}
}
