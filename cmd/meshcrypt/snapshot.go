package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// MaxSnapshotFile bounds a snapshot that is read, in bytes.
const MaxSnapshotFile = 256 << 20

func (a *app) snapshotCommand() *cobra.Command {
	snapshot := group(&cobra.Command{
		Use: "snapshot", Short: "the whole registry in a file",
		Long: `Save the registry to a file, or go on from such a file when every voter is lost.
Its secrets are sealed: only a voter's own key or the recovery key opens them.`,
		Example: "  meshcrypt operator snapshot save mesh.snapshot",
	})
	snapshot.AddCommand(a.snapshotSaveCommand(), a.snapshotRestoreCommand())
	return snapshot
}

func (a *app) snapshotSaveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "save FILE", Short: "save the registry to a file", Args: cobra.ExactArgs(1),
		Long: "Save the registry, as the arbiter has it now, to a file that is not there yet.", Example: "  meshcrypt operator snapshot save mesh.snapshot",
		RunE: func(cmd *cobra.Command, args []string) error {
			var s control.Snapshot
			if err := a.call(cmd.Context(), control.OpSnapshotSave, control.Nothing{}, &s); err != nil {
				return err
			}
			if err := writeNew(args[0], s.Data); err != nil {
				return err
			}
			reply := snapshotReply{Schema: s.Schema, File: args[0], Index: s.Index, Bytes: len(s.Data)}
			return a.print(reply, func(w io.Writer) {
				fmt.Fprintf(w, "%s: %d bytes, the registry at index %d.\n", reply.File, reply.Bytes, reply.Index)
			})
		},
	}
}

// snapshotReply is save's data.
type snapshotReply struct {
	Schema string `json:"schema"`
	File   string `json:"file"`
	Index  uint64 `json:"index"`
	Bytes  int    `json:"bytes"`
}

// writeNew writes a file that only its owner reads; it replaces none.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return usage("choose another file", "%v", err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (a *app) snapshotRestoreCommand() *cobra.Command {
	var f recoverFlags
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "go on from a saved registry, with this node as the only voter", Args: cobra.ExactArgs(1),
		Long: `Make this stopped node the only voter of its mesh, with the registry of the file.
What was revoked, removed or ended since, as far as this node knows, stays so;
join tokens are void; sessions resume at new keys. The rest of what happened
since the file was made is lost. The node must have been a member by then.`,
		Example: "  sudo meshcrypt operator snapshot restore mesh.snapshot --" + soleVoterFlag,
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readFile(args[0], MaxSnapshotFile)
			if err != nil {
				return usage("name a file that meshcrypt operator snapshot save made", "%v", err)
			}
			return a.becomeSoleVoter(cmd, f, data)
		},
	}
	f.add(cmd)
	return cmd
}
