package main

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/session"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use: "policy", Short: "what the mesh allows",
		Long:    "Show what the mesh allows and how much of its pool is given away, or change it.",
		Example: "  meshcrypt policy show\n  meshcrypt policy set sessions-per-client 8",
	})
	cmd.AddCommand(a.policyShowCommand(), a.policySetCommand())
	return cmd
}

func (a *app) policyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "the policy, and the use of the pool", Args: cobra.NoArgs,
		Long: `Show the policy in force, and of each part of the pool how many addresses are free,
in sessions, and held: of sessions that are over, until every agent that carried one
has said that nothing of it runs, or could run no more (UNTIL, for the first of them).`,
		Example: "  meshcrypt policy show\n  meshcrypt policy show -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var p control.Policy
			if err := a.call(cmd.Context(), control.OpPolicyShow, control.Nothing{}, &p); err != nil {
				return err
			}
			withSchema(&p.Schema, "policy")
			return a.print(p, func(w io.Writer) { policyTable(w, p) })
		},
	}
}

func (a *app) policySetCommand() *cobra.Command {
	return &cobra.Command{
		Use: "set KEY VALUE", Short: "change one key of the policy", Args: cobra.ExactArgs(2),
		Long: `Change one key of the policy, for the whole mesh and from now on:
  sessions-per-client  how many sessions one client may have open, or unlimited. A login
                       of a device that has one ends that one, and does not count.
                       Sessions that are open stay.
  headless             how long sessions run on without word from an arbiter, and live on
                       when their client ended without a goodbye: from 1m to 168h, or
                       by-voters (a day while one node votes, else 15m). A node that is out
                       of reach now goes by the time that it was told last.`,
		Example: "  meshcrypt policy set sessions-per-client 8\n  meshcrypt policy set headless 1h\n  meshcrypt policy set headless by-voters",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.setPolicy(cmd.Context(), args[0], args[1]) },
	}
}

func (a *app) setPolicy(ctx context.Context, key, value string) error {
	var p control.Policy
	if err := a.call(ctx, control.OpPolicySet, control.PolicyRequest{Key: key, Value: value}, &p); err != nil {
		return err
	}
	a.say("%s is %s: version %d of the policy.", key, value, p.Version)
	return nil
}

func policyTable(w io.Writer, p control.Policy) {
	row(w, "KEY", "VALUE")
	row(w, "version", p.Version)
	row(w, control.KeySessions, limitCell(p.Sessions))
	row(w, "slices-per-session", cmp.Or(p.Slices, session.DefaultSlices))
	row(w, control.KeyHeadless, age(p.Headless))
	row(w, "overload", p.Overload)
	row(w, "slice-mode", p.Mode)
	row(w, "slice-modes", words(p.Modes))
	row(w, "push", words(p.Prefixes))
	row(w, "dns", words(p.DNS))
	row(w, "search", words(p.Search))
	row(w, "hand-on", p.HandOn)
	row(w, "direct", p.Direct)
	fmt.Fprintln(w)
	row(w, "PART", "FREE", "IN SESSIONS", "HELD", "UNTIL")
	for _, r := range p.Pool {
		until := ""
		if r.Held > 0 {
			until = age(r.Until)
		}
		row(w, r.Prefix, r.Free, r.Open, r.Held, until)
	}
}

func limitCell(n int) string {
	if n == 0 {
		return "unlimited"
	}
	return fmt.Sprint(n)
}
