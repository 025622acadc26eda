package host

import (
	"errors"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Closed is what a client left that ended though its user did not end it: what
// was to go through its tunnel stays blocked until the next PrepareClient, or
// RestoreClient.
type Closed struct {
	Since    time.Time      // zero: nobody lived to write it down
	Why      string         // empty: the same
	Prefixes []netip.Prefix // that are blocked now
	By       []Closer       // what blocks each of them; none: nothing is blocked
	Unseen   bool           // this user may not see the fence
}

// closing is what the state file keeps of it.
type closing struct {
	Since time.Time `json:"since"`
	Why   string    `json:"why"`
}

// NoteClosed writes into a client's state file why it ended. The client has left
// the host, see Client.Leave.
func NoteClosed(stateFile, why string, at time.Time) error {
	state, err := readJournal(stateFile)
	if err != nil || state == nil {
		return err
	}
	if len(why) > maxWhy {
		why = why[:maxWhy]
	}
	state.Closing = &closing{Since: at.UTC().Truncate(time.Second), Why: why}
	return (&journal{path: stateFile, state: *state}).store()
}

// ReadClosed tells what the client of a state file left closed; nil for nothing.
// It is for a time when that client does not run. ErrDamaged says that something
// is closed and the file does not tell why; RestoreClient opens it.
func ReadClosed(stateFile string) (*Closed, error) {
	state, err := readJournal(stateFile)
	if errors.Is(err, ErrDamaged) {
		c := &Closed{}
		_ = c.stands(DefaultTable) // the damage is what counts
		return c, err
	}
	if err != nil || state == nil || state.Role != roleClient {
		return nil, err
	}
	boot, err := bootID()
	if err != nil || boot != state.Boot {
		return nil, err // routes and filters end with the boot
	}
	c := &Closed{}
	if state.Closing != nil {
		c.Since, c.Why = state.Closing.Since, state.Closing.Why
	}
	return c, c.stands(state.Table)
}

// RestoreClient is Restore for a client. It also removes what is ours where the
// file is damaged: the kernel knows it by our protocol number and the names of our
// tables. What sysctls were before is lost then.
func RestoreClient(stateFile string) error {
	_, err := readJournal(stateFile)
	if !errors.Is(err, ErrDamaged) {
		return Restore(stateFile)
	}
	if err := remove(roleClient, DefaultTable, false); err != nil {
		return err
	}
	return (&journal{path: stateFile}).remove()
}

// PastTunnel marks a socket as one of the client's own (net.Dialer.Control), so
// that it reaches a gateway also where this host is closed. Without the right to
// mark there is no tunnel either.
func PastTunnel(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, DefaultMark)
	})
}
