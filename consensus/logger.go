package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// logger gives raft's lines to slog. An operator reads the result, so what raft
// calls info or warning is debug here, and its errors about another server,
// which is down or has moved on, are warnings: they ask for nothing to be done
// here. One that repeats is told once in QuietFor, and of a server that cannot be
// reached one, whatever was for it, once that has lasted: where all start at once, or one is
// started anew, it is over in a moment. Changes of leadership are told by Raft itself.
type logger struct {
	hclog.Logger // the rest of the interface, silent
	out          *slog.Logger
	quiet        *quiet
	now          func() time.Time
}

func newLogger(out *slog.Logger) *logger {
	return &logger{Logger: hclog.NewNullLogger(), out: out, quiet: newQuiet(), now: time.Now}
}

// Log writes a line at hclog's level.
func (l *logger) Log(level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	if level >= hclog.Error && !needless(args) && !parting(msg, args) && l.due(msg, args) {
		to = slog.LevelError
		if aboutPeer(args) {
			to = slog.LevelWarn
		}
	}
	if l.out.Enabled(context.Background(), to) {
		l.out.Log(context.Background(), to, "raft: "+msg, plain(args)...)
	}
}

// due reports whether a line of an error is to be told now.
func (l *logger) due(msg string, args []any) bool {
	about, now := subject(msg, args), l.now()
	return (about == msg || l.quiet.lasts(about, now)) && l.quiet.due(about, now)
}

// Trace, Debug, Info, Warn and Error are Log at their level.
func (l *logger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }

// Debug is Log at its level.
func (l *logger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }

// Info is Log at its level.
func (l *logger) Info(msg string, args ...any) { l.Log(hclog.Info, msg, args...) }

// Warn is Log at its level.
func (l *logger) Warn(msg string, args ...any) { l.Log(hclog.Warn, msg, args...) }

// Error is Log at its level.
func (l *logger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

// With adds fields to every line.
func (l *logger) With(args ...any) hclog.Logger {
	return &logger{Logger: l.Logger, out: l.out.With(plain(args)...), quiet: l.quiet, now: l.now}
}

// Named keeps the one name all lines carry.
func (l *logger) Named(string) hclog.Logger { return l }

// ResetNamed keeps the one name all lines carry.
func (l *logger) ResetNamed(string) hclog.Logger { return l }

// subject is what is told once in QuietFor: the line, or the server that the network does not
// lead to, which heartbeats, entries and votes find out each for themselves.
func subject(msg string, args []any) string {
	if !slices.ContainsFunc(args, unreached) {
		return msg
	}
	for i, arg := range args[:len(args)-1] {
		if arg != "peer" && arg != "target" {
			continue
		}
		if server, ok := args[i+1].(raft.Server); ok {
			return fmt.Sprint("peer ", server.Address)
		}
		return fmt.Sprint("peer ", args[i+1])
	}
	return msg
}

// aboutPeer reports whether a line tells of a connection to another server.
func aboutPeer(args []any) bool {
	return slices.ContainsFunc(args, func(arg any) bool { return arg == "peer" || arg == "target" || unreached(arg) })
}

// unreached reports whether an argument is the network's error, its end, or that no answer
// came in time. What raft's codec met while it read is behind an error of its own, which
// errors.As does not look behind.
func unreached(arg any) bool {
	err, ok := arg.(error)
	if read, is := arg.(interface{ Cause() error }); is && read.Cause() != nil {
		err = read.Cause()
	}
	var network *net.OpError
	return ok && (errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded))
}

// needless reports whether a line asks for nothing. It tells of an entry that the log has no more:
// whoever needs it, as each new server does, gets a snapshot. Or of a snapshot that is
// refused: that is told by the transport, and by whoever refuses it. Or that this replica's own
// transport is closed, which was asked to; or that it decides nothing since the mesh was
// recovered without it: that is told when it is heard, with what to expect.
func needless(args []any) bool {
	return slices.ContainsFunc(args, func(arg any) bool {
		err, ok := arg.(error)
		return ok && (errors.Is(err, raft.ErrLogNotFound) || errors.Is(err, errRefused) || errors.Is(err, raft.ErrTransportShutdown) ||
			errors.Is(err, errGivenUp))
	})
}

// parting reports whether a line tells no more than that a connection is over which another
// server made. That one, or this, has ended it, as after each change of leadership; if it
// means anything, whoever sends over one says so. What was sent and is no command is told.
func parting(msg string, args []any) bool {
	return (msg == "failed to decode incoming command" || msg == "failed to flush response") && slices.ContainsFunc(args, unreached)
}

// plain turns hclog's deferred formats into text, and servers into their short ids.
func plain(args []any) []any {
	out := make([]any, len(args))
	for i, arg := range args {
		switch arg := arg.(type) {
		case hclog.Format:
			if len(arg) > 0 {
				out[i] = fmt.Sprintf(fmt.Sprint(arg[0]), arg[1:]...)
			}
		case raft.Server:
			out[i] = shortID(arg.ID)
		case raft.ServerAddress: // an id, too: the layer resolves it
			out[i] = shortID(raft.ServerID(arg))
		default:
			out[i] = arg
		}
	}
	return out
}

// shortID is what all other lines call a node by.
func shortID(server raft.ServerID) string {
	if id, ok := nodeID(server); ok {
		return id.Short()
	}
	return string(server)
}

// quiet remembers which errors were told, and since when servers cannot be reached.
type quiet struct {
	mu       sync.Mutex // protects what follows
	told     map[string]time.Time
	failures map[string]failures
}

// failures are those of one server, each soon after the one before.
type failures struct{ first, last time.Time }

func newQuiet() *quiet {
	return &quiet{told: make(map[string]time.Time), failures: make(map[string]failures)}
}

// lasts notes that a server cannot be reached, and reports whether that is so for SettlesWithin.
// That it was reached meanwhile nobody says: who is not tried for FailuresApart may have been.
func (q *quiet) lasts(server string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	f, known := q.failures[server]
	if !known && len(q.failures) >= MaxQuiet {
		clear(q.failures)
	}
	if !known || now.Sub(f.last) > FailuresApart {
		f.first = now
	}
	f.last = now
	q.failures[server] = f
	return now.Sub(f.first) >= SettlesWithin
}

// due reports whether the line was not told lately, and notes that it now is.
func (q *quiet) due(msg string, now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if last, ok := q.told[msg]; ok && now.Sub(last) < QuietFor {
		return false
	}
	if len(q.told) >= MaxQuiet {
		clear(q.told)
	}
	q.told[msg] = now
	return true
}
