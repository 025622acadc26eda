package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrStuck is how Run ends when a part of the daemon was to end and did not.
var ErrStuck = errors.New("node: the daemon ends although a part of it does not")

// running is which parts of a daemon run, by name: one that does not end can be named.
// The zero value is ready.
type running struct {
	mu    sync.Mutex // protects what follows
	parts []string   // in the order in which they began
	why   error      // the daemon ends; nil: it was told to, or does not end yet
}

// do does what a part does. It runs until that returns.
func (r *running) do(part string, does func()) {
	r.begin(part)
	defer r.end(part)
	does()
}

func (r *running) begin(part string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts = append(r.parts, part)
}

func (r *running) end(part string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.parts, part)
	r.parts = slices.Delete(r.parts, i, i+1)
}

// endsFor notes why the daemon ends, before its parts do: one of them may never come to say
// so. The first reason counts.
func (r *running) endsFor(why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == nil {
		r.why = why
	}
}

// all is what runs still, and why it is to end.
func (r *running) all() (parts []string, why error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.parts), r.why
}

// within does all that a daemon does. From the end of ctx on it waits no longer than limit:
// one part that hangs must not keep a supervisor from starting the daemon again. What that
// leaves on the host is what kill -9 leaves. The error is ErrStuck then, and why the daemon ends.
func (r *running) within(ctx context.Context, limit time.Duration, log *slog.Logger, does func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- does() }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case err := <-ended:
		return err
	case <-late.C:
	}
	parts, why := r.all()
	log.Error("the daemon was to end, and a part of it does not: it ends without that", "parts", parts, "after", limit, "goroutines", goroutines())
	return errors.Join(why, fmt.Errorf("%w within %v: %s", ErrStuck, limit, strings.Join(parts, ", ")))
}

// afterwards does what is left to do when the parts have ended, or were given up. A disk that
// hangs may have it hang, too.
func (n *Node) afterwards(what string, does func() error) error {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	var r running
	return r.within(over, n.endWithin(), n.config.Log, func() (err error) {
		r.do(what, func() { err = does() })
		return err
	})
}

// endWithin is how long the parts have to end.
func (n *Node) endWithin() time.Duration { return cmp.Or(n.config.endWithin, EndWithin) }

// goroutines is where all of them stand. Arguments are left out, for they may be of keys (I1).
func goroutines() string {
	const withoutArguments = 1
	var all strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&all, withoutArguments) // a builder takes all
	return all.String()
}
