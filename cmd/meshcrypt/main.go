// Command meshcrypt is the one binary of a mesh: node, client and operator's
// tool. This package owns flags, configuration files, signals, tables and exit
// codes; what a verb does belongs to node, and it reaches a running daemon
// only through node/control.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), ends()...)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// ends are the signals that ask for a clean end. A terminal that closes sends the
// last one, unless nohup said that it does not matter.
func ends() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// run is one invocation, from arguments to exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !a.started {
		err = usageError(cmd.CommandPath(), err)
	}
	f := explain(err)
	if f.cause != "" {
		fmt.Fprintln(stderr, "meshcrypt: "+f.cause)
	}
	if f.next != "" {
		fmt.Fprintln(stderr, "  next: "+f.next)
	}
	return f.code
}
