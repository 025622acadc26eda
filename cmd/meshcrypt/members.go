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
how loaded they say they are, and who is the arbiter. VIOLATIONS counts packets
that should not exist (forged, from nobody's address) since this arbiter leads;
-o json names their reasons and where the newest came from.`,
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
		row(w, "NAME", "INDEX", "STATE", "MAY", "IS", "RAFT", "LOAD", "SLICES", "VIOLATIONS", "OUTER", "INSIDE", "ID")
		for _, n := range m.Members {
			row(w, n.Name, n.Index, n.State, words(n.May), words(n.Is), raftCell(n.Arbiter, n.Voter),
				fmt.Sprintf("%.0f%%", 100*n.Load), n.Slices, violationCell(n.Violations), words(n.Outers()), n.Inside, n.ID.Short())
		}
	})
}

// violationCell sums what -o json lists by reason and source.
func violationCell(all []control.Violation) string {
	var sum uint64
	for _, v := range all {
		sum += v.Count
	}
	if sum == 0 {
		return ""
	}
	return fmt.Sprint(sum)
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
