// Package descriptors is how many files this process may have open, and what to do when it
// can open no more. It owns the process's limit, the descriptors that are set aside from the
// start, and the finding that there are too few. It does not own who goes without: the TCP
// port turns clients away first, and node gives the lead up.
//
// A descriptor that is set aside was opened before all others and has a low number, so it is
// good for one more also where the limit was lowered below what is open.
package descriptors

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"syscall"
)

// Raise lets this process open as many as it wants, or as many as it may. The runtime has
// taken what the hard limit allows; a process with the right to it raises that as well.
func Raise(want uint64) {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Cur < want {
		limit.Cur, limit.Max = want, max(limit.Max, want)
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // who may not hears of it where it wants them
	}
}

// Limit is how many this process may have open.
func Limit() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	return int(limit.Cur)
}

// Lacking says that something could not be opened for want of descriptors, or of memory
// that the kernel has for them.
func Lacking(err error) bool {
	return full(err) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// full says that a table of files is: this process's, or the host's.
func full(err error) bool { return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) }

// Words say what this process lacks and what to do, where it would have want of them.
func Words(err error, want int) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, syscall.ENFILE):
		return fmt.Sprintf("the host has as many files open as it may (fs.file-max is %s): sysctl -w fs.file-max=..., or look who has them (lsof -n)", fileMax())
	case !full(err):
		return "the kernel has no memory for another connection of the daemon: look at free -m, at MemoryMax of its unit, and at net.ipv4.tcp_mem beside /proc/net/sockstat"
	case Limit() >= want:
		return fmt.Sprintf("the daemon has all the files open that it may (%d): look what they are (ls -l /proc/%d/fd)", Limit(), os.Getpid())
	}
	return fmt.Sprintf("the daemon has all the files open that it may (%d): at once, prlimit --pid %d --nofile=%d; and for its next start, LimitNOFILE=%d in its unit, or ulimit -Hn",
		Limit(), os.Getpid(), want, want)
}

func fileMax() string {
	text, err := os.ReadFile("/proc/sys/fs/file-max")
	if err != nil {
		return "not known"
	}
	return strings.TrimSpace(string(text))
}
