package node

import (
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
