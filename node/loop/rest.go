package loop

import (
	"context"
	"net"
	"sync/atomic"
)

// Calling is a connection that calls who wants to read it, so that nobody has to wait.
type Calling interface {
	net.Conn
	// Ready reports whether a read may return at once; false: all that came was read.
	Ready() bool
	// Readable has f called whenever Ready may have become true, at a deadline and when it
	// is closed too. f must not wait. False: this one cannot, and f is never called.
	Readable(f func()) bool
}

// follower is a stream that is read while something comes, by one goroutine at a time.
type follower[M any] struct {
	*Stream[M]
	calling Calling      // nil: somebody has to wait for what comes
	calls   atomic.Int64 // since it last found nothing; whoever adds the first reads
	hear    func(*M) bool
	end     func()
	over    func(error)
}

// Follow is Run that returns as soon as nothing is there to read, where the connection
// calls when there is; over is told when the stream has ended, and why.
func (s *Stream[M]) Follow(ctx context.Context, hear func(*M) bool, over func(error)) {
	f := &follower[M]{Stream: s, hear: hear, end: s.begin(ctx), over: over}
	f.calls.Store(1) // who reads first is here
	if c, ok := s.line.Conn.(Calling); ok && c.Readable(f.wake) {
		f.calling = c
	}
	f.read()
}

// wake is called when something may have come.
func (f *follower[M]) wake() {
	if f.calls.Add(1) == 1 {
		go f.read()
	}
}

// read hears what is there.
func (f *follower[M]) read() {
	for !f.rests() {
		m, err := f.next()
		if err == nil && m != nil && !f.hear(m) {
			err = ErrOver
		}
		if err != nil {
			f.end()
			f.over(err)
			return
		}
	}
}

// rests reports whether nothing is there, and whoever comes next reads on: from then on the
// connection's end is his alone. After the end of the stream nobody does.
func (f *follower[M]) rests() bool {
	for {
		calls := f.calls.Load()
		if f.calling == nil || f.calling.Ready() {
			return false
		}
		f.line.rest()
		if f.calls.CompareAndSwap(calls, 0) {
			return true
		}
	}
}
