package node

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// bootTime is CLOCK_BOOTTIME: it goes on while the host sleeps, and nobody
// can set it.
func bootTime() time.Duration {
	var ts unix.Timespec
	// This clock exists on every kernel that has TUN offloads.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// packetClock is bootTime for packet workers: without a system call, which
// costs as much as a small packet. It counts on from one reading by the
// monotonic clock, and reads again when the wall clock has moved otherwise than
// that one: the host slept, or somebody set the time. Safe for concurrent use.
type packetClock struct {
	began  time.Time
	offset atomic.Int64 // of bootTime from the monotonic time since began
	apart  atomic.Int64 // of the wall clock from it, when offset was read
}

// clockSlack is how much of a sleep may go unnoticed, and how imprecise a
// reading may be.
const (
	clockSlack = 10 * time.Millisecond
	clockError = 50 * time.Microsecond
	clockTries = 4
)

func newPacketClock() *packetClock {
	c := &packetClock{began: time.Now()}
	c.read(c.began)
	return c
}

// now is nanoseconds of bootTime.
func (c *packetClock) now() int64 {
	now := time.Now()
	since := now.Sub(c.began)
	if moved := now.UnixNano() - int64(since) - c.apart.Load(); moved > int64(clockSlack) || -moved > int64(clockSlack) {
		c.read(now)
	}
	return int64(since) + c.offset.Load()
}

// read reads both clocks, close together if it can.
func (c *packetClock) read(now time.Time) {
	for range clockTries {
		before := time.Since(c.began)
		boot := bootTime()
		after := time.Since(c.began)
		c.offset.Store(int64(boot - before))
		if after-before <= clockError {
			break
		}
	}
	c.apart.Store(now.UnixNano() - int64(now.Sub(c.began)))
}
