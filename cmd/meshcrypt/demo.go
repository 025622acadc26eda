package main

import (
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meshcrypt/meshcrypt/cmd/meshcrypt/demo"
	"github.com/meshcrypt/meshcrypt/node/control"
)

const demoHelp = `Build a whole mesh on this machine and watch it survive: nodes, a client outside
and a web server inside, each a process in a network namespace of its own. The
client downloads and uploads at once; a third of the way the busiest agent is
killed with SIGKILL, at two thirds it is started again. In the end the verdict:
bytes, hashes, longest stall, sessions lost, and each agent's share.

No root is needed, nothing of this host's network is touched, and nothing stays
behind, after Ctrl-C neither. Exit code 0 is PASS, 1 is FAIL.

Where this machine refuses namespaces it says so, and plays the same on loopback
addresses: nodes without a TUN, the client's programs by its proxy. That shows
less, and the verdict says what.`

const demoExample = `  meshcrypt demo
  meshcrypt demo --seconds 60 --nodes 5 --rate 500mbit
  meshcrypt demo --keep           # afterwards a shell in the client's namespace`

// demoFlags are what a demo can be told.
type demoFlags struct {
	config demo.Config
	rate   string
}

func (f *demoFlags) add(flags *pflag.FlagSet) {
	flags.IntVar(&f.config.Seconds, "seconds", 30, "how long the transfers last")
	flags.IntVar(&f.config.Nodes, "nodes", 3, "nodes of the mesh")
	flags.StringVar(&f.rate, "rate", "200mbit", "pace of each transfer")
	flags.BoolVar(&f.config.Keep, "keep", false, "afterwards open a shell in the client's namespace")
	flags.StringVar(&f.config.Logs, "logs", "", "directory that keeps each process's log (default: gone with the demo)")
}

func (a *app) demoCommand() *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use: "demo", Short: "see a mesh survive a kill -9, on this machine, without root",
		Long: demoHelp, Example: demoExample, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := a.demoConfig(f)
			if err != nil {
				return err
			}
			return demoExit(demo.Run(cmd.Context(), config))
		},
	}
	f.add(cmd.Flags())
	cmd.AddCommand(a.demoStageCommand(), a.demoWebCommand(), a.demoTransferCommand())
	return cmd
}

// demoConfig checks what the demo was told.
func (a *app) demoConfig(f demoFlags) (demo.Config, error) {
	rate, err := bandwidth(f.rate)
	if err != nil {
		return f.config, err
	}
	f.config.Rate = rate
	f.config.JSON = a.output == "json"
	f.config.Stdin, f.config.Stdout, f.config.Stderr = a.stdin, a.stdout, a.stderr
	if err := f.config.Check(); err != nil {
		return f.config, usage("meshcrypt demo --help", "%v", err)
	}
	return f.config, nil
}

// demoExit is the exit code and words of a demo's end. FAIL says why in its verdict, and the
// first process's end in its own name.
func demoExit(passed bool, err error) error {
	if refused, ok := errors.AsType[*demo.Refused](err); ok {
		return exit(refused.Code())
	}
	if failed, ok := errors.AsType[*demo.Failed](err); ok {
		said := &control.Error{Code: control.CodeFailed, Next: failed.Next}
		if failed.Cause != nil {
			said.Cause = "demo: " + oneLine(failed)
		}
		return said
	}
	if err == nil && !passed {
		return exit(control.CodeFailed)
	}
	return err
}

// The three below are the demo's own processes, started by it alone.

func (a *app) demoStageCommand() *cobra.Command {
	var f demoFlags
	var dir string
	cmd := &cobra.Command{
		Use: "stage", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := a.demoConfig(f)
			if err != nil {
				return err
			}
			passed, err := demo.Stage(cmd.Context(), config, dir)
			return demoExit(passed, err)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&dir, "dir", "", "empty directory for everything the demo writes")
	return cmd
}

func (a *app) demoWebCommand() *cobra.Command {
	var listen string
	return hidden("web", func(flags *pflag.FlagSet) { flags.StringVar(&listen, "listen", "", "") },
		func(ctx context.Context, events io.Writer) error { return demo.Serve(ctx, listen, events) }, a.stdout)
}

func (a *app) demoTransferCommand() *cobra.Command {
	var t demo.Transfer
	return hidden("transfer", func(flags *pflag.FlagSet) {
		flags.StringVar(&t.URL, "url", "", "")
		flags.Uint64Var(&t.Bytes, "bytes", 0, "")
		flags.Uint64Var(&t.Rate, "rate", 0, "")
		flags.StringVar(&t.Proxy, "proxy", "", "")
	}, func(ctx context.Context, events io.Writer) error { return t.Run(ctx, events) }, a.stdout)
}

func hidden(use string, add func(*pflag.FlagSet), do func(context.Context, io.Writer) error, events io.Writer) *cobra.Command {
	cmd := &cobra.Command{Use: use, Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return do(cmd.Context(), events) }}
	add(cmd.Flags())
	return cmd
}
