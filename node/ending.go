package node

import (
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/node/host"
)

// Shut is a client's end that its user did not ask for, after the tunnel was up:
// what was to go through it stays blocked on this host.
type Shut struct{ Why error }

// Error says why, and what is left.
func (s *Shut) Error() string {
	return s.Why.Error() + "; what the mesh offered stays blocked on this host"
}

// Unwrap gives the reason alone.
func (s *Shut) Unwrap() error { return s.Why }

// errAbrupt is the end of a client that never came to say why: a panic.
var errAbrupt = errors.New("the client broke down")

// byUser reports whether the user has ended the client, by a signal or by meshcrypt
// disconnect, whatever else went wrong at the same moment.
func (c *connection) byUser() bool { return c.signalled() != nil || c.disconnected.Load() }

// close gives the host back after an end that the user asked for. After any other
// it leaves closed what was to go through the tunnel, and notes why.
func (c *connection) close(why error) error {
	if c.byUser() {
		err := errors.Join(why, c.engine.Close(), c.user.close(false))
		if c.disconnected.Load() && c.config.Proxy == nil {
			// An earlier client left it, if this one was not yet in its place.
			err = errors.Join(err, host.RestoreClient(c.stateFile()))
		}
		return err
	}
	if why == nil {
		why = errAbrupt
	}
	up := c.user.up()
	err := errors.Join(why, c.engine.Close(), c.user.close(true))
	if !up {
		return err
	}
	if noted := host.NoteClosed(c.stateFile(), strings.TrimPrefix(err.Error(), "client: "), time.Now()); noted != nil {
		c.config.Log.Warn("the reason of this end is not written down", "error", noted)
	}
	return &Shut{err}
}

func (c *connection) stateFile() string { return filepath.Join(c.config.RunDir, ClientState) }
