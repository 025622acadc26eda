// Package ask lets others have something done in the goroutine of a loop, and
// wait for it no longer than they like. It owns that what they are told is so: a
// question has been answered, or never will be. How a question gets into a loop,
// and what is done there, is the loop's (node/agent, node/arbiter).
package ask

import (
	"context"
	"sync"
)

// Question is something to do in a loop, once.
type Question struct {
	f    func()
	once sync.Once
	ran  bool
	done chan struct{}
}

// New makes a question that is answered by running f.
func New(f func()) *Question { return &Question{f: f, done: make(chan struct{})} }

// Answer runs f, unless nobody waits for it any more. The loop calls it.
func (q *Question) Answer() {
	q.once.Do(func() {
		q.f()
		q.ran = true
		close(q.done)
	})
}

// Wait waits for the answer until ctx ends or over is closed, and reports whether
// f was run. If not it will not be: who asked may be gone.
func (q *Question) Wait(ctx context.Context, over <-chan struct{}) bool {
	select {
	case <-q.done:
	case <-over:
	case <-ctx.Done():
	}
	q.once.Do(func() {})
	return q.ran
}
