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
		Long: "The Raft configuration: its leader is the arbiter.", Example: "  meshcrypt operator raft list-peers\n  meshcrypt operator raft transfer-leader\n" +
			"  meshcrypt operator raft remove-peer db3",
	})
	raft.AddCommand(a.raftPeersCommand(), a.raftTransferCommand(), a.raftRemoveCommand())
	operator.AddCommand(raft, a.recoverCommand(), a.snapshotCommand())
	return operator
}

func (a *app) raftPeersCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list-peers", Short: "list the Raft configuration", Args: cobra.NoArgs,
		Long: `List the servers of the Raft configuration and who leads. The last column says why a
server that is connected could not take over: it gets no vote, or is replaced.`, Example: "  meshcrypt operator raft list-peers",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var p control.RaftPeers
			if err := a.call(cmd.Context(), control.OpRaftPeers, control.Nothing{}, &p); err != nil {
				return err
			}
			withSchema(&p.Schema, "raft-peers")
			return a.print(p, func(w io.Writer) {
				fmt.Fprintf(w, "# Term %d, index %d\n", p.Term, p.Index)
				row(w, "NAME", "STATE", "VOTER", "ID", "COULD NOT TAKE OVER")
				for _, one := range p.Peers {
					state := "follower"
					switch {
					case one.Leader:
						state = "leader"
					case one.Silent:
						state = "silent"
					}
					row(w, one.Name, state, one.Voter, one.ID.Short(), one.Unfit)
				}
			})
		},
	}
}

func (a *app) raftTransferCommand() *cobra.Command {
	return &cobra.Command{
		Use: "transfer-leader [NODE]", Short: "pass leadership to another voter", Args: cobra.MaximumNArgs(1),
		Long:    "Make another voter the arbiter: the one named, else the one that is furthest. Traffic does not notice.",
		Example: "  meshcrypt operator raft transfer-leader\n  meshcrypt operator raft transfer-leader db2",
		RunE: func(cmd *cobra.Command, args []string) error {
			to := ""
			if len(args) > 0 {
				to = args[0]
			}
			if err := a.call(cmd.Context(), control.OpRaftTransfer, control.NameRequest{Name: to}, nil); err != nil {
				return err
			}
			if to == "" {
				a.say("Leadership was passed on.")
			} else {
				a.say("%s is the arbiter.", to)
			}
			return nil
		},
	}
}

const removePeerHelp = `Take a voter, or a standby, that is lost for good out of the Raft configuration.
Another node that may vote takes its place by itself, and the mesh's data key is
renewed. The node stays a member.

Without this command a silent voter is replaced after 60 seconds, as soon as
somebody can take its place; a host that still runs leaves by meshcrypt leave.
Refused are the last voter, the arbiter, and what would leave the voters without
a quorum.`

func (a *app) raftRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use: "remove-peer NODE", Short: "take the vote of a node that is lost", Args: cobra.ExactArgs(1),
		Long: removePeerHelp, Example: "  meshcrypt operator raft list-peers\n  meshcrypt operator raft remove-peer db3",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.call(cmd.Context(), control.OpRaftRemove, control.NameRequest{Name: args[0]}, nil); err != nil {
				return err
			}
			a.say("%s keeps the log no more. meshcrypt operator raft list-peers shows who takes its place.", args[0])
			return nil
		},
	}
}
