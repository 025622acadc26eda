package main

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

// version is set by make; see buildVersion for a build without it.
var version string

// buildVersion is what make said, else what the toolchain noted of the source.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}

// app is one invocation: the streams and the global flags. It is owned by run.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	dataDir    string
	output     string // table or json
	configFile string
	logLevel   string // of a daemon
	started    bool   // arguments and configuration were accepted
}

const rootHelp = `meshcrypt makes one VPN gateway of many hosts.

Several agents share the traffic of each client, each a slice under keys of its
own; any host can die, be drained or be upgraded while sessions stay.

Settings are taken from flags, then MESHCRYPT_<FLAG> in the environment, then
the file --config, then the defaults. Data goes to stdout, talk to stderr.

Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 no daemon or
unreachable, 4 not authenticated, 5 denied by policy or capacity, 6 degraded.`

const rootExample = `  meshcrypt demo                       # see it work, on this machine, without root
  sudo meshcrypt init --run            # the first host; prints the line for the next
  meshcrypt client add ann             # somebody who may connect
  meshcrypt client profile ann > ann.toml
  sudo meshcrypt connect --profile ann.toml`

// defaultDataDir is where node and client keep their state unless told otherwise.
const defaultDataDir = "/var/lib/meshcrypt"

// runLine starts the node of this data directory.
func (a *app) runLine() string {
	if a.dataDir == defaultDataDir {
		return "meshcrypt run"
	}
	return "meshcrypt run --data-dir " + a.dataDir
}

// root is the whole command tree.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "meshcrypt", Short: "one VPN gateway of many hosts", Long: rootHelp, Example: rootExample,
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.start(cmd) },
	}
	flags := root.PersistentFlags()
	flags.StringVar(&a.dataDir, "data-dir", defaultDataDir, "where node and client keep their state")
	flags.StringVarP(&a.output, "output", "o", "table", "table or json")
	flags.StringVar(&a.configFile, "config", "", "settings file (default "+defaultConfig+", if it is there)")
	root.AddCommand(
		a.initCommand(), a.runCommand(), a.joinCommand(), a.leaveCommand(),
		a.drainCommand(false), a.drainCommand(true),
		a.statusCommand(), a.membersCommand(), a.sessionsCommand(),
		a.tokenCommand(), a.clientCommand(), a.caCommand(), a.policyCommand(), a.operatorCommand(),
		a.connectCommand(), a.disconnectCommand(), a.demoCommand(), a.versionCommand())
	return group(root)
}

// start completes the flags from environment and file, before a verb runs.
func (a *app) start(cmd *cobra.Command) error {
	if err := a.configure(cmd); err != nil {
		return err
	}
	if a.output != "table" && a.output != "json" {
		return usage("-o table, or -o json", "unknown output format %q", a.output)
	}
	a.started = true
	return nil
}

// group makes a command that only has others below it refuse anything else.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return usage(cmd.CommandPath()+" --help", "unknown command %q for %s%s",
			args[0], cmd.CommandPath(), suggestion(cmd, args[0]))
	}
	return cmd
}

func suggestion(cmd *cobra.Command, word string) string {
	cmd.SuggestionsMinimumDistance = 2
	if names := cmd.SuggestionsFor(word); len(names) > 0 {
		return fmt.Sprintf(" (did you mean %s?)", strings.Join(names, " or "))
	}
	return ""
}

// socket is where the daemon of the data directory listens.
func (a *app) socket() string { return filepath.Join(a.dataDir, datadir.SocketName) }

// logger writes a daemon's talk to stderr.
func (a *app) logger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, usage("--log-level debug, info, warn or error", "unknown log level %q", level)
	}
	a.logLevel = level
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: l})), nil
}

func logFlag(flags *pflag.FlagSet, level *string) {
	flags.StringVar(level, "log-level", "info", "debug, info, warn or error")
}

// usage is an error of the command line or of a setting.
func usage(next, format string, args ...any) error {
	return control.Errorf(control.CodeUsage, next, format, args...)
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: cobra.NoArgs,
		Example: "  meshcrypt version -o json",
		RunE: func(*cobra.Command, []string) error {
			return a.print(versionReply{Schema: "meshcrypt.version/v1", Version: buildVersion()}, func(w io.Writer) {
				fmt.Fprintln(w, "meshcrypt", buildVersion())
			})
		},
	}
}

type versionReply struct {
	Schema  string `json:"schema"`
	Version string `json:"version"`
}
