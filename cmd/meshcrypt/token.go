package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node/control"
)

func (a *app) tokenCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use: "token", Short: "tokens that let hosts join",
		Long: `A join token names the mesh by its CA hash and holds a secret that a host proves
when it joins. It gives the roles gateway and agent unless it says otherwise;
a voter decides who is admitted, so hand out voter tokens with care.`,
		Example: "  meshcrypt token create\n  meshcrypt token create --roles voter,gateway,agent --uses 2 --ttl 30m\n  meshcrypt token list",
	})
	cmd.AddCommand(a.tokenCreateCommand(), a.tokenListCommand(), a.tokenRevokeCommand())
	return cmd
}

func (a *app) tokenCreateCommand() *cobra.Command {
	request := control.TokenRequest{}
	cmd := &cobra.Command{
		Use: "create", Short: "make a join token and print it", Args: cobra.NoArgs,
		Long:    "Make a token. It is the last line on stdout, and shown once: the registry keeps only\nwhat is needed to check it.",
		Example: "  meshcrypt token create > token\n  meshcrypt token create --roles agent --uses 10 --ttl 24h",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.createToken(cmd.Context(), request) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&request.Roles, "roles", []string{"gateway", "agent"}, "roles that it allows: voter, gateway, agent")
	flags.IntVar(&request.Uses, "uses", 1, "hosts that may join with it")
	flags.DurationVar(&request.TTL, "ttl", time.Hour, "how long it is valid")
	return cmd
}

func (a *app) createToken(ctx context.Context, request control.TokenRequest) error {
	switch {
	case request.Uses < 1:
		return usage("--uses 1", "--uses %d: a token serves at least one host", request.Uses)
	case request.TTL < time.Second:
		return usage("--ttl 1h", "--ttl %s is over at once", request.TTL)
	}
	var created control.TokenCreated
	if err := a.call(ctx, control.OpTokenCreate, request, &created); err != nil {
		return err
	}
	withSchema(&created.Schema, "token")
	return a.print(created, func(w io.Writer) { fmt.Fprintln(w, created.Token) })
}

func (a *app) tokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list join tokens, without their secrets", Args: cobra.NoArgs,
		Long: "List the tokens of the last 24 hours, used up and revoked ones too.", Example: "  meshcrypt token list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var t control.Tokens
			if err := a.call(cmd.Context(), control.OpTokenList, control.Nothing{}, &t); err != nil {
				return err
			}
			withSchema(&t.Schema, "tokens")
			return a.print(t, func(w io.Writer) {
				row(w, "ID", "STATE", "ROLES", "USES LEFT", "TIME LEFT")
				for _, one := range t.Tokens {
					row(w, one.ID, one.State, words(one.Roles), one.Uses, age(one.Left))
				}
			})
		},
	}
}

func (a *app) tokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Short: "make a join token worthless", Args: cobra.ExactArgs(1),
		Long:    "Revoke a token. Hosts that joined with it stay members.",
		Example: "  meshcrypt token revoke k3xw7q2a",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.call(cmd.Context(), control.OpTokenRevoke, control.NameRequest{Name: args[0]}, nil); err != nil {
				return err
			}
			a.say("Token %s is revoked.", args[0])
			return nil
		},
	}
}
