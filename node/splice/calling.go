package splice

import (
	"net"
	"sync/atomic"
)

// Calling is a connection that calls who wants to read it.
type Calling interface {
	net.Conn
	// Readable has f called whenever Ready may have become true, and when the connection
	// is closed. f must not wait.
	Readable(f func())
	// Ready reports whether a read would not wait.
	Ready() bool
}

// follower copies from a connection that calls, and is a goroutine only while something
// waits there.
type follower struct {
	dst       net.Conn
	src       Calling
	closeBoth func()
	done      chan struct{} // closed at the end

	calls atomic.Int64 // since it last found nothing; whoever adds the first makes it run
}

func (f *follower) called() {
	if f.calls.Add(1) == 1 {
		go f.run()
	}
}

// run copies until nothing waits. After the end the calls stay counted, so it is the last.
func (f *follower) run() {
	for {
		calls := f.calls.Load()
		for f.src.Ready() {
			if err := hand(f.dst, f.src); err != nil {
				ended(f.dst, f.src, err, f.closeBoth)
				close(f.done)
				return
			}
		}
		if f.calls.CompareAndSwap(calls, 0) {
			return
		}
	}
}
