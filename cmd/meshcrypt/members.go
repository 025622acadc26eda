package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node/control"
)

func (a *app) membersCommand() *cobra.Command {
	return &cobra.Command{
		Use: "members", Short: "list the nodes of the mesh", Args: cobra.NoArgs,
		Long: `List the nodes: where they are, which roles they may take and which they have,
how loaded they say they are, and who is the arbiter.`,
		Example: "  meshcrypt members\n  meshcrypt members -o json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.members(cmd.Context()) },
	}
}

func (a *app) members(ctx context.Context) error {
	var m control.Members
	if err := a.call(ctx, control.OpMembers, control.Nothing{}, &m); err != nil {
		return err
	}
	withSchema(&m.Schema, "members")
	return a.print(m, func(w io.Writer) {
		row(w, "NAME", "INDEX", "STATE", "MAY", "IS", "RAFT", "LOAD", "SLICES", "OUTER", "INSIDE", "ID")
		for _, n := range m.Members {
			row(w, n.Name, n.Index, n.State, words(n.May), words(n.Is), raftCell(n.Arbiter, n.Voter),
				fmt.Sprintf("%.0f%%", 100*n.Load), n.Slices, words(n.Outers()), n.Inside, n.ID.Short())
		}
	})
}

func raftCell(arbiter, voter bool) string {
	switch {
	case arbiter:
		return "arbiter"
	case voter:
		return "voter"
	default:
		return ""
	}
}
