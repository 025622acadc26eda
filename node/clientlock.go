package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrClientRuns says that a run directory is in use: it is one client's at a time.
var ErrClientRuns = errors.New("a client runs here already")

// ClientRuns is ErrClientRuns with the process that has the run directory.
type ClientRuns struct {
	PID int // 0: an earlier build, which does not say
}

func (c *ClientRuns) Error() string {
	if c.PID == 0 {
		return ErrClientRuns.Error()
	}
	return fmt.Sprintf("%v (process %d)", ErrClientRuns, c.PID)
}

// Unwrap makes it ErrClientRuns.
func (c *ClientRuns) Unwrap() error { return ErrClientRuns }

// clientLock is locked while a client runs, and holds its process id.
const clientLock = "client.lock"

// LockClient takes an existing run directory for this process: without it a second
// client would take the first one's socket, routes and session. A client that
// is about to end is waited for.
func LockClient(ctx context.Context, runDir string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(runDir, clientLock), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("run directory: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, ClientEndsWithin)
	defer cancel()
	for {
		runs := lockedBy(runDir, file)
		if runs == nil {
			break
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, runs
		case <-time.After(ClientEndsWithin / 40):
		}
	}
	if err := errors.Join(file.Truncate(0), writePID(file)); err != nil {
		file.Close()
		return nil, fmt.Errorf("run directory: %w", err)
	}
	return func() { file.Close() }, nil
}

func writePID(file *os.File) error {
	_, err := file.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// lockedBy is nil where the lock was free; then this process has it.
func lockedBy(runDir string, file *os.File) *ClientRuns {
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		if answers(runDir) {
			return &ClientRuns{} // of a build that knows no lock
		}
		return nil
	}
	text := make([]byte, 16)
	n, _ := file.ReadAt(text, 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	return &ClientRuns{PID: pid}
}

// ClientRunning is the client that has a run directory, whether it answers or not;
// nil for none, and where this user may not look.
func ClientRunning(runDir string) *ClientRuns {
	file, err := os.Open(filepath.Join(runDir, clientLock))
	if err != nil {
		if answers(runDir) {
			return &ClientRuns{}
		}
		return nil
	}
	defer file.Close() // which ends the lock, too
	return lockedBy(runDir, file)
}

// answers reports whether somebody listens at the client's socket, however slow
// to answer.
func answers(runDir string) bool {
	conn, err := net.DialTimeout("unix", filepath.Join(runDir, ClientSocket), time.Second)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
