package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/host"
)

func (a *app) disconnectCommand() *cobra.Command {
	var runDir string
	cmd := &cobra.Command{
		Use: "disconnect", Short: "end the session of this host's client", Args: cobra.NoArgs,
		Long: `End the running client's session and give this host its own routes back.

Where no client runs, open what one left closed: because the mesh ended its
session, or because it was killed. That needs no mesh and no client.`,
		Example: "  sudo meshcrypt disconnect\n  meshcrypt disconnect            # a client that runs without root",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.disconnect(cmd.Context(), runDir)
		},
	}
	runDirFlag(cmd.Flags(), &runDir)
	return cmd
}

func (a *app) disconnect(ctx context.Context, runDir string) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	err := control.Local(filepath.Join(runDir, node.ClientSocket)).Call(ctx, control.OpDisconnect, control.Nothing{}, nil)
	if err == nil {
		return a.disconnected(ctx, runDir)
	}
	if control.CodeOf(err) != control.CodeUnreachable {
		return err
	}
	return a.openLeft(ctx, runDir)
}

// openLeft opens what a client left closed that did not end by its user. Of one that
// runs, and does not answer, nothing is taken away.
func (a *app) openLeft(ctx context.Context, runDir string) error {
	none := control.Errorf(control.CodeUnreachable, "meshcrypt connect, or name its --run-dir", "no client runs here (%s)", runDir)
	unlock, err := node.LockClient(ctx, runDir) // no client begins meanwhile
	var runs *node.ClientRuns
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return none
	case errors.As(err, &runs):
		return unanswered(runs)
	case err != nil:
		return err
	}
	defer unlock()
	left := filepath.Join(runDir, node.ClientState)
	if gone(left) {
		return none
	}
	if err := host.RestoreClient(left); err != nil {
		return err
	}
	a.say("No client was running; what one had left closed is open again.")
	return nil
}

// unanswered is about a client that runs and cannot be asked. SIGTERM is its
// user's end, too.
func unanswered(runs *node.ClientRuns) error {
	next := "see `ps -C meshcrypt`, and kill the one that connects"
	if runs.PID != 0 {
		next = fmt.Sprintf("kill %d", runs.PID)
	}
	return control.Errorf(control.CodeUnreachable, next, "a client runs here, and does not answer at its socket")
}

// disconnected waits until the client has given the host back: the file is
// there while it has routes, the socket while it answers, the lock while it runs.
func (a *app) disconnected(ctx context.Context, runDir string) error {
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	for {
		if gone(filepath.Join(runDir, node.ClientState)) && gone(filepath.Join(runDir, node.ClientSocket)) && node.ClientRunning(runDir) == nil {
			a.say("Disconnected.")
			return nil
		}
		select {
		case <-ctx.Done():
			return control.Errorf(control.CodeFailed, "look at the client's log", "the client was told to end, and did not")
		case <-look.C:
		}
	}
}

func gone(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

func runDirFlag(flags *pflag.FlagSet, runDir *string) {
	flags.StringVar(runDir, "run-dir", defaultRunDir(), "where a running client keeps its socket")
}

// clientDataDir is a place that this user can write to and that stays.
func clientDataDir(ofRoot string) string {
	if os.Geteuid() == 0 {
		return ofRoot
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "meshcrypt")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "meshcrypt")
	}
	return ofRoot
}

// defaultRunDir is a place that this user alone can write to.
func defaultRunDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Geteuid() != 0 {
		return filepath.Join(dir, "meshcrypt")
	}
	if cache, err := os.UserCacheDir(); err == nil && os.Geteuid() != 0 {
		return filepath.Join(cache, "meshcrypt", "run")
	}
	return "/run/meshcrypt"
}
