package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// soleVoterFlag is the confirmation, named for what it does.
const soleVoterFlag = "make-this-node-the-only-voter"

// recoverFlags are those of every command that makes a node the only voter.
type recoverFlags struct {
	confirmed bool
	keyFile   string
}

func (f *recoverFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.confirmed, soleVoterFlag, false, "do it: the other voters are lost for good")
	cmd.Flags().StringVar(&f.keyFile, "recovery-key-file", "", "file with the recovery key that init printed, - for stdin (asked for if needed)")
}

const recoverHelp = `Make this stopped node the only voter of its mesh, because the others are lost
for good. It must be a voter or a standby: the one that took over in a mesh of
two hosts, or the last that is left of three.

The node goes on from its own copy of the registry. The mesh's incarnation is
raised, so every node refuses an arbiter that still leads by the old log; join
tokens are void; sessions go on and resume, nobody needs a password again. Other
voters that come back give their log up for this one's by themselves, once they
hear this node; whom they refused, it refuses then. So leave their DATA-DIR as it
is.

An incarnation is a long number, made of the time, and the first part of the
fence in meshcrypt status. Recover one host only: of two, the later one's mesh
stays, once they hear each other, and what the other decided is lost but for
whom it refused.

Nothing is sealed for a standby that never was one; then the recovery key that
init printed opens the mesh's secrets.`

func (a *app) recoverCommand() *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use: "recover", Short: "make this node the only voter when the others are lost", Args: cobra.NoArgs,
		Long: recoverHelp,
		Example: "  sudo systemctl stop meshcrypt\n  sudo meshcrypt operator recover --" + soleVoterFlag +
			"\n  sudo systemctl start meshcrypt",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.becomeSoleVoter(cmd, f, nil) },
	}
	f.add(cmd)
	return cmd
}

// becomeSoleVoter recovers, or restores a snapshot; it asks for the recovery
// key only when it is needed.
func (a *app) becomeSoleVoter(cmd *cobra.Command, f recoverFlags, snapshot []byte) error {
	if !f.confirmed {
		return usage("stop the daemon, then: "+strings.TrimSuffix(cmd.UseLine(), " [flags]")+" --"+soleVoterFlag,
			"this makes this node the only voter and must be confirmed by --%s", soleVoterFlag)
	}
	log, err := a.logger("warn")
	if err != nil {
		return err
	}
	config := node.RecoverConfig{DataDir: a.dataDir, Snapshot: snapshot, Log: log}
	if f.keyFile != "" {
		if config.Recovery, err = a.recoveryKey(cmd.Context(), f.keyFile); err != nil {
			return err
		}
	}
	done, err := node.Recover(config)
	if errors.Is(err, node.ErrRecoveryKey) && f.keyFile == "" {
		if config.Recovery, err = a.recoveryKey(cmd.Context(), ""); err == nil {
			done, err = node.Recover(config)
		}
	}
	if err != nil {
		return recoverFailure(err)
	}
	return a.printRecovered(done)
}

func (a *app) recoveryKey(ctx context.Context, path string) (string, error) {
	key, err := secretSource{a, ctx, "--recovery-key-file", path}.read("recovery key")
	return string(key), err
}

// recoverFailure says what to do about it.
func recoverFailure(err error) error {
	for _, known := range []struct {
		is   error
		code int
		next string
	}{
		{node.ErrNoCopy, control.CodeFailed, "run it on a voter or standby, or restore a file: meshcrypt operator snapshot restore FILE"},
		{node.ErrRecoveryKey, control.CodeAuth, "give the key that meshcrypt init printed: --recovery-key-file FILE"},
		{node.ErrSnapshot, control.CodeUsage, "name a file that meshcrypt operator snapshot save made"},
		{node.ErrForeign, control.CodeFailed, "take a snapshot of this mesh, made when this node was a member"},
	} {
		if errors.Is(err, known.is) {
			return control.Errorf(known.code, known.next, "%v", err)
		}
	}
	return err
}

// recoveredReply is recover's data.
type recoveredReply struct {
	Schema      string `json:"schema"`
	Cluster     string `json:"cluster"`
	Incarnation uint64 `json:"incarnation"`
	Nodes       int    `json:"nodes"`
	Clients     int    `json:"clients"`
	Sessions    int    `json:"sessions"`
}

func (a *app) printRecovered(r node.Recovered) error {
	reply := recoveredReply{
		Schema: "meshcrypt.recovered/v1", Cluster: r.Cluster.String(), Incarnation: r.Incarnation,
		Nodes: r.Nodes, Clients: r.Clients, Sessions: r.Sessions,
	}
	err := a.print(reply, func(w io.Writer) {
		fmt.Fprintf(w, "Only voter of mesh %s now, incarnation %d: %d nodes, %d clients, %d sessions.\n",
			reply.Cluster, reply.Incarnation, reply.Nodes, reply.Clients, reply.Sessions)
	})
	a.say(recoveredAdvice, a.runLine())
	return err
}

const recoveredAdvice = `Start it: %s. Join tokens are void: meshcrypt token create makes new ones.
A former voter that comes back is started as it is: it takes this node's log and votes again, and whom it refused is refused.`
