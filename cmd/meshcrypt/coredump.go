package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// keepMemoryPrivate ends core dumps of this process, and the reading of its
// memory by others of the same user: keys live there and nowhere else (I1).
func keepMemoryPrivate() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("no limit on core dumps: %w", err)
	}
	// A core_pattern that is a program takes dumps whatever the limit says.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("memory can be dumped: %w", err)
	}
	return nil
}
