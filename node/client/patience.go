package client

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
)

// patience is how long a first login is tried again: what stands in its way is
// often over soon (an election, a gateway that restarts, a crowd at its door). A
// session that was open is resumed for as long as it lasts, without it. Owned by
// keepControl.
type patience struct {
	since time.Duration // when trying began, without what the user took
	told  time.Duration // to wait, in all
	said  bool
}

// appointed does not count a wait that the client is told, for AppointedMost in all: nobody
// has proved that he may say so.
func (p *patience) appointed(wait time.Duration) {
	wait = min(wait, AppointedMost-p.told)
	p.told += wait
	p.since += wait
}

// out reports whether to give up: it has been long enough, or whoever answers is
// another mesh, at every gateway alike.
func (p *patience) out(now time.Duration, err error, tries, gateways int) bool {
	return errors.Is(err, pki.ErrAuthority) && tries >= gateways || now-p.since >= FirstWithin
}

// waiting tells the user once that it takes longer, and why; the log, where nobody else is told.
func (c *Client) waiting(p *patience, err error) {
	level := slog.LevelInfo
	if c.config.Waiting != nil || p.said {
		level = slog.LevelDebug
	}
	c.config.Log.Log(context.Background(), level, "no arbiter yet, trying again", "for", FirstWithin-(c.config.Now()-p.since), "error", err)
	if !p.said && c.config.Waiting != nil {
		c.config.Waiting(err, FirstWithin)
	}
	p.said = true
}

// loginError is what kept the user's own credential from being used: a file that
// cannot be read, a prompt that nobody answers. No other try changes it.
type loginError struct{ error }

// Unwrap gives the cause.
func (e loginError) Unwrap() error { return e.error }
