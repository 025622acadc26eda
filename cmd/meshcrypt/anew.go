package main

import (
	"fmt"
	"os"
	"syscall"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// beginAnew goes on as `run` in a fresh process image: memory with its keys is gone,
// as after kill -9, and a supervisor sees the process that it started. A host that
// has joined needs no more than this, however its daemon was started. One that is to
// stand aside is told so: it would take its key from the other host otherwise.
func (a *app) beginAnew(aside bool) {
	args := []string{os.Args[0], "run", "--data-dir", a.dataDir, "--log-level", a.logLevel}
	if aside {
		args = append(args, "--"+asideFlag)
	}
	err := os.ErrNotExist
	if program, unknown := os.Executable(); unknown == nil {
		err = syscall.Exec(program, args, os.Environ())
	}
	if err != nil { // removed meanwhile: what runs is still there
		err = syscall.Exec("/proc/self/exe", args, os.Environ())
	}
	fmt.Fprintln(a.stderr, "meshcrypt: cannot begin anew:", err)
	os.Exit(control.CodeFailed) // a supervisor may be able to
}
