package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/control"
)

func (a *app) clientCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use: "client", Short: "who may connect",
		Long: "Add, list and revoke clients, and write their profiles.",
		Example: `  meshcrypt client add ann
  meshcrypt client profile ann > ann.toml
  meshcrypt client revoke ann`,
	})
	cmd.AddCommand(a.clientAddCommand(), a.clientListCommand(), a.clientRevokeCommand(), a.clientProfileCommand())
	return cmd
}

// clientFlags describe a client to be added.
type clientFlags struct {
	passwordFile, bandwidth string
	prefixes                []string
	replace                 bool
}

func (a *app) clientAddCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use: "add NAME", Short: "let somebody connect, by password", Args: cobra.ExactArgs(1),
		Long: `Add a client with a password. This command turns the password into a key and
hands over its public half: the password itself reaches no daemon and no node.`,
		Example: `  meshcrypt client add ann
  meshcrypt client add ann --password-file - < secret
  meshcrypt client add site-b --prefix 10.20.0.0/16 --bandwidth 500mbit
  meshcrypt client add ann --replace            # a new password`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.addClient(cmd.Context(), f, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.passwordFile, "password-file", "", "file that holds the password; - is stdin (default: ask)")
	flags.StringSliceVar(&f.prefixes, "prefix", nil, "prefixes the client reaches through the mesh (default: the mesh's)")
	flags.StringVar(&f.bandwidth, "bandwidth", "", "bandwidth assumed when the client names none, such as 200mbit")
	flags.BoolVar(&f.replace, "replace", false, "replace a client of that name")
	return cmd
}

func (a *app) addClient(ctx context.Context, f clientFlags, name string) error {
	request := control.ClientRequest{Replace: f.replace}
	request.Client.Name = name
	var err error
	if err = auth.CheckUser(name); err != nil {
		return err
	}
	if request.Client.Prefixes, err = prefixes("--prefix", f.prefixes); err != nil {
		return err
	}
	if request.Client.Bandwidth, err = bandwidth(f.bandwidth); err != nil {
		return err
	}
	var status control.Status
	if err := a.call(ctx, control.OpStatus, control.Nothing{}, &status); err != nil {
		return err
	}
	password, err := secretSource{a, ctx, "--password-file", f.passwordFile}.readNew("password for " + name)
	if err != nil {
		return err
	}
	key, err := auth.DeriveKey(password, status.Cluster, name, auth.DefaultCost())
	if err != nil {
		return err
	}
	request.Client.PasswordKey = key.Public()
	if err := a.call(ctx, control.OpClientPut, request, nil); err != nil {
		return err
	}
	a.say("%s may connect. Their profile: meshcrypt client profile %s", name, name)
	return nil
}

func (a *app) clientListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "list the clients", Args: cobra.NoArgs,
		Long: "List who may connect, and who may no more.", Example: "  meshcrypt client list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var c control.Clients
			if err := a.call(cmd.Context(), control.OpClientList, control.Nothing{}, &c); err != nil {
				return err
			}
			withSchema(&c.Schema, "clients")
			return a.print(c, func(w io.Writer) {
				row(w, "NAME", "STATE", "GROUP", "SESSIONS", "PREFIXES")
				for _, one := range c.Clients {
					row(w, one.Name, one.State, one.Group, one.Sessions, words(one.Prefixes))
				}
			})
		},
	}
}

func (a *app) clientRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "let somebody connect no more", Args: cobra.ExactArgs(1),
		Long: "Revoke a client and end its sessions: within 5 s on every node that can be reached,\n" +
			"within the headless time elsewhere.",
		Example: "  meshcrypt client revoke ann",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.call(cmd.Context(), control.OpClientRevoke, control.NameRequest{Name: args[0]}, nil); err != nil {
				return err
			}
			a.say("%s is revoked.", args[0])
			return nil
		},
	}
}

func (a *app) clientProfileCommand() *cobra.Command {
	return &cobra.Command{
		Use: "profile NAME", Short: "write the profile that a client connects with", Args: cobra.ExactArgs(1),
		Long: `Print a client's profile: the gateways and the CA hash by which the mesh is
recognised. It holds no secret, yet whoever hands it over decides which mesh
the client trusts: send it by a way that cannot be tampered with.`,
		Example: "  meshcrypt client profile ann > ann.toml",
		RunE: func(cmd *cobra.Command, args []string) error {
			var p control.Profile
			if err := a.call(cmd.Context(), control.OpClientProfile, control.NameRequest{Name: args[0]}, &p); err != nil {
				return err
			}
			return a.print(p, func(w io.Writer) { fmt.Fprint(w, p.Profile) })
		},
	}
}
