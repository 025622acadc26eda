package splice

import (
	"net"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/node/loop"
)

// follower copies from a connection that calls, and is a goroutine only while something
// waits there.
type follower struct {
	dst       net.Conn
	src       loop.Calling
	closeBoth func()
	done      chan struct{} // closed at the end

	calls atomic.Int64 // since it last found nothing; whoever adds the first makes it run
}

// follow begins where b calls, and says whether it does.
func follow(a, b net.Conn, closeBoth func(), done chan struct{}) bool {
	src, ok := b.(loop.Calling)
	f := &follower{dst: a, src: src, closeBoth: closeBoth, done: done}
	return ok && src.Readable(f.called)
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
