package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node/control"
)

func (a *app) operatorCommand() *cobra.Command {
	operator := group(&cobra.Command{
		Use: "operator", Short: "what is below the mesh: the Raft log",
		Long: "Look at and move what the mesh itself stands on. Rarely needed.", Example: "  meshcrypt operator raft list-peers",
	})
	raft := group(&cobra.Command{
		Use: "raft", Short: "the voters and their leader",
		Long: "The Raft configuration: its leader is the arbiter.", Example: "  meshcrypt operator raft list-peers\n  meshcrypt operator raft transfer-leader",
	})
	raft.AddCommand(a.raftPeersCommand(), a.raftTransferCommand())
	operator.AddCommand(raft, a.recoverCommand(), a.snapshotCommand())
	return operator
}

func (a *app) raftPeersCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list-peers", Short: "list the Raft configuration", Args: cobra.NoArgs,
		Long: "List the servers of the Raft configuration and who leads.", Example: "  meshcrypt operator raft list-peers",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var p control.RaftPeers
			if err := a.call(cmd.Context(), control.OpRaftPeers, control.Nothing{}, &p); err != nil {
				return err
			}
			withSchema(&p.Schema, "raft-peers")
			return a.print(p, func(w io.Writer) {
				fmt.Fprintf(w, "# Term %d, index %d\n", p.Term, p.Index)
				row(w, "NAME", "STATE", "VOTER", "ID")
				for _, one := range p.Peers {
					state := "follower"
					if one.Leader {
						state = "leader"
					}
					row(w, one.Name, state, one.Voter, one.ID.Short())
				}
			})
		},
	}
}

func (a *app) raftTransferCommand() *cobra.Command {
	return &cobra.Command{
		Use: "transfer-leader", Short: "pass leadership to another voter", Args: cobra.NoArgs,
		Long: "Make another voter the arbiter. Traffic does not notice.", Example: "  meshcrypt operator raft transfer-leader",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.call(cmd.Context(), control.OpRaftTransfer, control.Nothing{}, nil); err != nil {
				return err
			}
			a.say("Leadership was passed on.")
			return nil
		},
	}
}
