package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

const joinHelp = `Enter a mesh through any of its members, then run.

The first time, the host registers: it checks the mesh against the CA hash in
the token before it sends anything, and proves the token's secret without
sending it. From then on join just runs the node, on the founder too, so one
unit file serves every host.

With --userspace, in a mesh that masquerades, it needs no root and leaves the
host as it is (see meshcrypt init --help).

The token is taken from --token-file (- is stdin), MESHCRYPT_TOKEN, the file
"token" in the data directory, or the terminal, in this order.`

const joinExample = `  echo mct1... | sudo meshcrypt join 203.0.113.7 --token-file -
  sudo meshcrypt join a.example.com b.example.com --inside-if eth1
  sudo meshcrypt join                       # registered before: just run`

// joinFlags are how a host takes part.
type joinFlags struct {
	place               placeFlags
	tokenFile, logLevel string
	roles               []string
}

func (a *app) joinCommand() *cobra.Command {
	var f joinFlags
	cmd := &cobra.Command{
		Use: "join <peer>...", Short: "enter a mesh through any member, then run",
		Long: joinHelp, Example: joinExample, Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, peers []string) error { return a.join(cmd.Context(), f, peers) },
	}
	flags := cmd.Flags()
	f.place.add(flags)
	flags.StringVar(&f.tokenFile, "token-file", "", "file that holds the join token; - is stdin")
	flags.StringSliceVar(&f.roles, "roles", nil, "roles to take, of those the token allows (default: all of them)")
	logFlag(flags, &f.logLevel)
	return cmd
}

func (a *app) join(ctx context.Context, f joinFlags, peers []string) error {
	log, err := a.logger(f.logLevel)
	if err != nil {
		return err
	}
	member, ok, err := a.membership()
	if err != nil {
		return err
	}
	if ok {
		if err := a.checkGiven(member, f.tokenFile); err != nil {
			return err
		}
		return a.serve(ctx, log, false)
	}
	config, err := a.joinConfig(ctx, f, peers)
	if err != nil {
		return err
	}
	name, err := a.register(ctx, config)
	if err != nil {
		return err
	}
	a.say("%s", registeredAs(name, config.Place.Name))
	return a.serve(ctx, log, false)
}

// registeredAs says by which name others know this host.
func registeredAs(name, wanted string) string {
	if name != wanted {
		return "Registered as " + name + ", for another member has the name " + wanted + "."
	}
	return "Registered as " + name + "."
}

// checkGiven refuses the token of another mesh. A member needs none: one that was
// used up, or whose file is gone, does not keep it from running.
func (a *app) checkGiven(member datadir.Node, file string) error {
	text, err := a.givenToken(file)
	if err != nil {
		a.say("This host is a member already and needs no token (%v).", err)
		return nil
	}
	token, err := pki.ParseToken(text)
	if err != nil {
		return nil
	}
	return checkToken(member, token)
}

func (a *app) joinConfig(ctx context.Context, f joinFlags, peers []string) (config node.JoinConfig, err error) {
	if len(peers) == 0 {
		return config, usage("meshcrypt join ADDRESS, of any member", "this host is in no mesh yet, and no peer was named")
	}
	for _, peer := range peers {
		config.Peers = append(config.Peers, peerAddress(peer))
	}
	if config.Place, err = f.place.place(); err != nil {
		return config, err
	}
	config.Roles = f.roles
	config.Token, err = a.token(ctx, f.tokenFile)
	return config, err
}

func (a *app) token(ctx context.Context, file string) (pki.Token, error) {
	text, err := a.givenToken(file)
	if err == nil && text == "" {
		var typed []byte
		typed, err = a.ask(ctx, "join token", "--token-file")
		text = string(typed)
	}
	if err != nil {
		return pki.Token{}, err
	}
	return pki.ParseToken(strings.TrimSpace(text))
}

// givenToken finds the token that was given without asking; none is "".
func (a *app) givenToken(file string) (string, error) {
	if file != "" {
		text, err := secretSource{a: a, flag: "--token-file", path: file}.read("")
		return string(text), err
	}
	if text := os.Getenv("MESHCRYPT_TOKEN"); text != "" {
		return text, nil
	}
	text, err := readFile(filepath.Join(a.dataDir, "token"), MaxSecret)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(text)), err
}
