package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

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
  meshcrypt client passwd ann
  meshcrypt client revoke ann`,
	})
	cmd.AddCommand(a.clientAddCommand(), a.clientPasswdCommand(), a.clientListCommand(), a.clientRevokeCommand(),
		a.clientEnableCommand(), a.clientProfileCommand())
	return cmd
}

// clientFlags describe a client to be added.
type clientFlags struct {
	passwordFile, sharedKeyFile, authority string
	cert                                   bool
	issue                                  issueFlags
	bandwidth                              string
	prefixes                               []string
	replace                                bool
	change                                 []string // with replace: what was named
}

func (a *app) clientAddCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use: "add NAME", Short: "let somebody connect", Args: cobra.ExactArgs(1),
		Long: `Add a client that logs in by a password, a pre-shared key, or a certificate.

This command turns a password or pre-shared key into what checks a proof of it and
hands that over: the secret itself reaches no daemon and no node. A pre-shared key
must be hard to guess: head -c 32 /dev/urandom | base64 > ann.psk. --cert issues a
certificate of the mesh's CA as meshcrypt ca issue does; --ca admits those of an
imported CA that name the client, see meshcrypt ca --help.

A name that is taken is refused. --replace changes what is named beside it and
nothing else; --prefix "" goes back to the mesh's prefixes. Sessions go on.`,
		Example: `  meshcrypt client add ann
  meshcrypt client add ann --password-file - < secret
  meshcrypt client add site-b --psk-file site-b.psk --prefix 10.20.0.0/16 --bandwidth 500mbit
  meshcrypt client add ann --cert --out /root/ann
  meshcrypt client add ann@example.com --ca corp
  meshcrypt client add ann --replace --prefix 10.20.0.100/32`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.replace {
				f.change = f.named(cmd.Flags().Changed)
			}
			return a.addClient(cmd.Context(), f, args[0])
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.passwordFile, "password-file", "", "file that holds the password; - is stdin (default: ask)")
	flags.StringVar(&f.sharedKeyFile, "psk-file", "", "file that holds a pre-shared key; - is stdin")
	flags.BoolVar(&f.cert, "cert", false, "log in by certificates of the mesh; the first is issued now")
	flags.StringVar(&f.authority, "ca", "", "log in by certificates of this imported CA")
	f.issue.add(flags)
	flags.StringSliceVar(&f.prefixes, "prefix", nil, "prefixes the client reaches through the mesh (default: the mesh's)")
	flags.StringVar(&f.bandwidth, "bandwidth", "", "bandwidth assumed when the client names none, such as 200mbit")
	flags.BoolVar(&f.replace, "replace", false, "change what is named here of a client that there is")
	return cmd
}

func (a *app) addClient(ctx context.Context, f clientFlags, name string) error {
	request := control.ClientRequest{Replace: f.replace, Change: f.change}
	request.Client.Name = name
	var err error
	if err = errors.Join(auth.CheckUser(name), f.check()); err != nil {
		return err
	}
	if f.cert {
		if err := f.issue.room(name); err != nil {
			return err
		}
	}
	if request.Client.Prefixes, err = prefixes("--prefix", f.prefixes); err != nil {
		return err
	}
	if request.Client.Bandwidth, err = bandwidth(f.bandwidth); err != nil {
		return err
	}
	if !f.replace || slices.Contains(f.change, control.ChangeLogin) {
		if err := f.credential(ctx, a, name, &request); err != nil {
			return err
		}
	}
	if err := a.call(ctx, control.OpClientPut, request, nil); err != nil {
		return err
	}
	if f.cert {
		if err := a.issueCertificate(ctx, f.issue, name); err != nil {
			return err
		}
	}
	if f.replace {
		a.say("%s has other %s.", name, strings.Join(f.change, " and "))
		return nil
	}
	a.say("%s may connect. Their profile: meshcrypt client profile %s", name, name)
	return nil
}

// named is what the flags speak of: all that --replace changes.
func (f clientFlags) named(given func(string) bool) (change []string) {
	for _, one := range []struct {
		what  string
		flags []string
	}{
		{control.ChangeLogin, []string{"password-file", "psk-file", "cert", "ca"}},
		{control.ChangePrefixes, []string{"prefix"}},
		{control.ChangeBandwidth, []string{"bandwidth"}},
	} {
		if slices.ContainsFunc(one.flags, given) {
			change = append(change, one.what)
		}
	}
	return change
}

// check sees that the client logs in in one way.
func (f clientFlags) check() error {
	ways := 0
	for _, given := range []bool{f.passwordFile != "", f.sharedKeyFile != "", f.cert, f.authority != ""} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		return usage("meshcrypt client add --help", "give one of --password-file, --psk-file, --cert, --ca")
	}
	return nil
}

// credential is what the registry checks the client by.
func (f clientFlags) credential(ctx context.Context, a *app, name string, request *control.ClientRequest) error {
	var status control.Status
	if err := a.call(ctx, control.OpStatus, control.Nothing{}, &status); err != nil {
		return err
	}
	switch {
	case f.cert || f.authority != "":
		request.Authority(f.authority)
		return nil
	case f.sharedKeyFile != "":
		secret, err := secretSource{a, ctx, "--psk-file", f.sharedKeyFile}.read("pre-shared key for " + name)
		if err != nil {
			return err
		}
		key, err := auth.DeriveSharedKey(secret, status.Cluster, name, auth.DefaultCost())
		if err != nil {
			return err
		}
		request.SharedKey(key.Verifier())
		return nil
	}
	password, err := secretSource{a, ctx, "--password-file", f.passwordFile}.readNew("password for " + name)
	if err != nil {
		return err
	}
	key, err := auth.DeriveKey(password, status.Cluster, name, auth.DefaultCost())
	request.Client.PasswordKey = key.Public()
	return err
}

func (a *app) clientPasswdCommand() *cobra.Command {
	var f clientFlags
	cmd := &cobra.Command{
		Use: "passwd NAME", Short: "give a client another password", Args: cobra.ExactArgs(1),
		Long: "Give a client that logs in by password another one, and change nothing else of it.\nSessions go on: meshcrypt sessions kick ends one.",
		Example: `  meshcrypt client passwd ann
  meshcrypt client passwd ann --password-file - < secret`,
		RunE: func(cmd *cobra.Command, args []string) error {
			request := control.ClientRequest{Replace: true, Change: []string{control.ChangePassword}}
			request.Client.Name = args[0]
			if err := f.credential(cmd.Context(), a, args[0], &request); err != nil {
				return err
			}
			if err := a.call(cmd.Context(), control.OpClientPut, request, nil); err != nil {
				return err
			}
			a.say("%s has another password.", args[0])
			return nil
		},
	}
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "file that holds the password; - is stdin (default: ask)")
	return cmd
}

func (a *app) clientEnableCommand() *cobra.Command {
	return &cobra.Command{
		Use: "enable NAME", Short: "let a revoked client connect again", Args: cobra.ExactArgs(1),
		Long: "Let a revoked client connect again, with the login and the prefixes that it had.\n" +
			"Its certificates stay revoked; meshcrypt ca issue makes another.",
		Example: "  meshcrypt client enable ann",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.call(cmd.Context(), control.OpClientEnable, control.NameRequest{Name: args[0]}, nil); err != nil {
				return err
			}
			a.say("%s may connect again.", args[0])
			return nil
		},
	}
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
				row(w, "NAME", "STATE", "LOGIN", "GROUP", "SESSIONS", "PREFIXES")
				for _, one := range c.Clients {
					row(w, one.Name, one.State, one.Login, one.Group, one.Sessions, words(one.Prefixes))
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
