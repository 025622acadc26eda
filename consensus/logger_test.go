package consensus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func TestOperatorReadsNoNoise(t *testing.T) {
	var text bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&text, nil)))
	l.Info("entering follower state")
	l.Warn("heartbeat timeout reached")
	l.Error("failed to get log", "index", 1, "error", raft.ErrLogNotFound) // of one that gets a snapshot
	l.Error("failed to commit logs", "error", errGivenUp)                  // of a leader that was recovered without
	if text.Len() != 0 {
		t.Fatalf("at info: %s", text.String())
	}
	for range 5 {
		l.With("peer", "b").Named("x").Error("failed to heartbeat to", "servers", hclog.Fmt("%d of %d", 1, 3))
	}
	line := text.String()
	if strings.Count(line, "\n") != 1 || !strings.Contains(line, "1 of 3") || !strings.Contains(line, "peer=b") {
		t.Fatalf("errors: %s", line)
	}
}

// TestPeersAreNoErrorsHere: what tells of another server that is down is a
// warning, with its short name; what tells of this one stays an error.
func TestPeersAreNoErrorsHere(t *testing.T) {
	peer := raft.Server{ID: "b", Address: "10.0.0.2:1"}
	for _, c := range []struct {
		args []any
		want string
	}{
		{[]any{"peer", peer, "error", errors.New("refused")}, "level=WARN msg=\"raft: failed\" peer=b error=refused"},
		{[]any{"target", peer}, "level=WARN"},
		{[]any{"error", io.EOF}, "level=WARN"},
		{[]any{"error", &net.OpError{Op: "write", Err: errors.New("broken pipe")}}, "level=WARN"},
		{[]any{"error", errors.New("disk is full")}, "level=ERROR"},
	} {
		var text bytes.Buffer
		newLogger(slog.New(slog.NewTextHandler(&text, nil))).Error("failed", c.args...)
		if !strings.Contains(text.String(), c.want) {
			t.Errorf("%v: %s", c.args, text.String())
		}
	}
}

// TestDeadServerIsOneLine: heartbeats, entries and votes for it fail alike; those of another
// server, and what is no matter of the network, are told beside it.
func TestDeadServerIsOneLine(t *testing.T) {
	var text bytes.Buffer
	l, now := newLogger(slog.New(slog.NewTextHandler(&text, nil))), time.Unix(1000, 0)
	l.now = func() time.Time { now = now.Add(SettlesWithin); return now }
	refused := &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	b, c := raft.Server{ID: "b", Address: "10.0.0.2:1"}, raft.Server{ID: "c", Address: "10.0.0.3:1"}
	for range 3 {
		l.Error("failed to heartbeat to", "peer", b.Address, "backoff time", time.Second, "error", refused)
		l.Error("failed to appendEntries to", "peer", b, "error", fmt.Errorf("x: %w", io.EOF))
		l.Error("failed to make requestVote RPC", "target", b, "error", refused, "term", 7)
		l.Error("failed to make requestVote RPC", "target", b, "error", decodeError{refused}, "term", 8)
		l.Error("failed to appendEntries to", "peer", b, "error", context.DeadlineExceeded)
	}
	if lines := strings.Count(text.String(), "\n"); lines != 1 {
		t.Errorf("%d lines: %s", lines, text.String())
	}
	for range 2 {
		l.Error("failed to appendEntries to", "peer", c, "error", refused)
	}
	l.Error("failed to appendEntries to", "peer", b, "error", errors.New("another incarnation"))
	if lines := strings.Count(text.String(), "\n"); lines != 3 {
		t.Errorf("%d lines: %s", lines, text.String())
	}
}

// TestStartIsNoWarning: while all voters start, or one does, it cannot be reached for a moment. Of
// a server that is away for longer the log warns, and names it as all other lines do.
func TestStartIsNoWarning(t *testing.T) {
	var text bytes.Buffer
	l, now := newLogger(slog.New(slog.NewTextHandler(&text, nil))), time.Unix(1000, 0)
	l.now = func() time.Time { return now }
	id := identity.NodeID{7}
	b := raft.Server{ID: serverID(id), Address: "10.0.0.2:1"}
	fail := func(times int, each time.Duration) {
		for range times {
			l.Error("failed to make requestVote RPC", "target", b, "error", &net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")})
			now = now.Add(each)
		}
	}
	for range 5 { // started anew now and then
		fail(5, SettlesWithin/5)
		now = now.Add(FailuresApart)
	}
	if text.Len() > 0 {
		t.Errorf("of what settled by itself: %s", text.String())
	}
	if fail(7, SettlesWithin/5); strings.Count(text.String(), "level=WARN") != 1 || !strings.Contains(text.String(), "target="+id.Short()+" ") {
		t.Errorf("of what lasts: %s", text.String())
	}
	text.Reset()
	l.Error("failed to heartbeat to", "peer", serverAddress(id), "error", errors.New("refused"))
	if !strings.Contains(text.String(), "peer="+id.Short()+" ") {
		t.Errorf("by its address: %s", text.String())
	}
	q := newQuiet()
	for i := range 3 * MaxQuiet { // I10
		if q.lasts(fmt.Sprint(i), now); len(q.failures) > MaxQuiet {
			t.Fatalf("%d servers remembered", len(q.failures))
		}
	}
}

// TestPartingIsNoNoise: a server that ends its connection, or one that this end closed, is
// ordinary life; nonsense that comes over one is not, nor that none can be accepted.
func TestPartingIsNoNoise(t *testing.T) {
	var text bytes.Buffer
	l := newLogger(slog.New(slog.NewTextHandler(&text, nil)))
	for _, err := range []error{
		&net.OpError{Op: "read", Err: net.ErrClosed}, decodeError{&net.OpError{Op: "read", Err: errors.New("connection reset by peer")}},
		decodeError{io.ErrUnexpectedEOF}, decodeError{io.EOF},
	} {
		l.Error("failed to decode incoming command", "error", err)
		l.Error("failed to flush response", "error", err)
	}
	l.Error("failed to decode incoming command", "error", raft.ErrTransportShutdown) // this one is stopped
	if text.Len() > 0 {
		t.Error(text.String())
	}
	l.Error("failed to accept connection", "error", &net.OpError{Op: "accept", Err: errors.New("too many open files")})
	l.Error("failed to decode incoming command", "error", decodeError{errors.New("msgpack: no such type")})
	if lines := strings.Count(text.String(), "\n"); lines != 2 {
		t.Errorf("%d lines: %s", lines, text.String())
	}
}

func TestQuietLimit(t *testing.T) { // I10
	q := &quiet{told: map[string]time.Time{}}
	now := time.Unix(1000, 0)
	for i := range 3 * MaxQuiet {
		if !q.due(fmt.Sprint(i), now) || len(q.told) > MaxQuiet {
			t.Fatalf("line %d, %d remembered", i, len(q.told))
		}
	}
	if q.due("191", now.Add(QuietFor-1)) || !q.due("191", now.Add(QuietFor)) {
		t.Fatal("a line is told once in QuietFor")
	}
}

// decodeError is like that of raft's codec, which errors.As does not look behind.
type decodeError struct{ err error }

func (d decodeError) Error() string { return "msgpack decode error [pos 486]: " + d.err.Error() }
func (d decodeError) Cause() error  { return d.err }
