package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/host"
)

// clientState is the file in the run directory in which a client notes what it
// changed on this host, while it is changed.
const clientState = "client-host.json"

const connectHelp = `Open a session with a mesh and route the networks it offers into the tunnel,
until Ctrl-C or meshcrypt disconnect.

The mesh is recognised by its CA hash, from a profile or behind the # of the
gateway; without one, connect refuses. Any gateway will do: the client learns
the others, and moves to the next when one falls silent.

A killed client leaves blackhole routes behind, so that nothing meant for the
tunnel leaves in clear. connect takes them over; disconnect removes them.`

const connectExample = `  sudo meshcrypt connect --profile ann.toml
  sudo meshcrypt connect --profile ann.toml --password-file secret --bandwidth 2gbit
  sudo meshcrypt connect 203.0.113.7#n5s3... --user ann`

// connectFlags are how somebody connects.
type connectFlags struct {
	profile, user, passwordFile string
	bandwidth, mode, tun        string
	suites                      []string
	runDir, logLevel            string
}

func (a *app) connectCommand() *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use: "connect [--profile FILE | <gateway>#<CA hash>]", Short: "reach the company's network through a mesh",
		Long: connectHelp, Example: connectExample, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.connect(cmd.Context(), f, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&f.profile, "profile", "", "profile, as meshcrypt client profile prints it")
	flags.StringVar(&f.user, "user", "", "who connects (default: the profile's user)")
	flags.StringVar(&f.passwordFile, "password-file", "", "file that holds the password; - is stdin (default: ask)")
	flags.StringVar(&f.bandwidth, "bandwidth", "", "bandwidth wanted, such as 2gbit (default: what the mesh gives)")
	flags.StringVar(&f.mode, "slice-mode", "auto", "how packets are spread over the slices: auto or burst")
	flags.StringSliceVar(&f.suites, "suite", nil, "ciphers offered, best first: "+suiteNames()+" (default: all, in the order that suits this CPU)")
	flags.StringVar(&f.tun, "tun", "mesh0", "name of the TUN interface")
	runDirFlag(flags, &f.runDir)
	logFlag(flags, &f.logLevel)
	return cmd
}

func runDirFlag(flags *pflag.FlagSet, runDir *string) {
	flags.StringVar(runDir, "run-dir", defaultRunDir(), "where a running client keeps its socket")
}

func defaultRunDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Geteuid() != 0 {
		return filepath.Join(dir, "meshcrypt")
	}
	return "/run/meshcrypt"
}

func (a *app) connect(ctx context.Context, f connectFlags, args []string) error {
	config, err := f.config(ctx, args)
	if err != nil {
		return err
	}
	if config.Profile.Cluster == (identity.ClusterID{}) {
		if config.Profile.Cluster, err = learnCluster(ctx, config.Profile); err != nil {
			return err
		}
	}
	config.Password = secretSource{a, ctx, "--password-file", f.passwordFile}.password(config.User)
	config.Ready = func() { a.say("Connected as %s. Ctrl-C, or meshcrypt disconnect, ends it.", config.User) }
	return a.session(ctx, config, f.logLevel)
}

// password is asked for when it is needed, not before.
func (s secretSource) password(user string) func() ([]byte, error) {
	return func() ([]byte, error) { return s.read("password for " + user) }
}

func (f connectFlags) config(ctx context.Context, args []string) (config node.ConnectConfig, err error) {
	config.Mode, config.TUN, config.RunDir = f.mode, f.tun, f.runDir
	if f.mode != "auto" && f.mode != "burst" {
		return config, usage("--slice-mode auto", "--slice-mode %q is not built in this version: there are auto and burst", f.mode)
	}
	if config.Bandwidth, err = bandwidth(f.bandwidth); err != nil {
		return config, err
	}
	if config.Suites, err = suites("--suite", f.suites); err != nil {
		return config, err
	}
	if config.Profile, err = f.anchor(ctx, args); err != nil {
		return config, err
	}
	if config.User = f.user; f.user == "" {
		config.User = config.Profile.User
	}
	if config.User == "" {
		return config, usage("--user NAME", "who connects? neither the profile nor --user says")
	}
	return config, nil
}

// anchor finds where the mesh is and how to recognise it. There is no third way.
func (f connectFlags) anchor(ctx context.Context, args []string) (client.Profile, error) {
	switch {
	case f.profile != "" && len(args) > 0:
		return client.Profile{}, usage("give one of them", "both --profile and a gateway were named")
	case f.profile != "":
		text, err := readFile(f.profile, MaxProfile)
		if err != nil {
			return client.Profile{}, usage("meshcrypt client profile NAME on a member prints it", "--profile: %v", err)
		}
		profile, err := client.ParseProfile(text)
		if err != nil {
			return profile, fmt.Errorf("%s: %w", f.profile, err)
		}
		return profile, nil
	case len(args) == 0:
		return client.Profile{}, usage("meshcrypt connect --profile FILE, or <gateway>#<CA hash>", "no mesh was named")
	}
	return gatewayAnchor(ctx, args[0])
}

// gatewayAnchor reads <gateway>#<CA hash>.
func gatewayAnchor(ctx context.Context, text string) (profile client.Profile, err error) {
	host, hash, ok := strings.Cut(text, "#")
	if !ok || hash == "" {
		return profile, usage("meshcrypt connect "+host+"#<CA hash>, or --profile FILE; a member prints both: meshcrypt client profile NAME",
			"%s says where the mesh is, but not how to recognise it", host)
	}
	if profile.CAHash, err = pki.ParseHash(hash); err != nil {
		return profile, err
	}
	name, portText, err := net.SplitHostPort(peerAddress(host))
	if err != nil {
		return profile, usage("meshcrypt connect 203.0.113.7#<CA hash>", "%q is no gateway: %v", host, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return profile, usage("meshcrypt connect 203.0.113.7:6484#<CA hash>", "%q is no port", portText)
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return profile, control.Errorf(control.CodeUnreachable, "name a gateway by its address", "%v", err)
	}
	for _, addr := range found {
		profile.Gateways = append(profile.Gateways, netip.AddrPortFrom(addr.Unmap(), uint16(port)))
	}
	return profile, nil
}

func (a *app) disconnectCommand() *cobra.Command {
	var runDir string
	cmd := &cobra.Command{
		Use: "disconnect", Short: "end the session of this host's client", Args: cobra.NoArgs,
		Long: `End the running client's session and take its routes away, the blackholes that
a killed client left behind too.`,
		Example: "  sudo meshcrypt disconnect",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.disconnect(cmd.Context(), runDir)
		},
	}
	runDirFlag(cmd.Flags(), &runDir)
	return cmd
}

func (a *app) disconnect(ctx context.Context, runDir string) error {
	ctx, cancel := context.WithTimeout(ctx, CallTimeout)
	defer cancel()
	err := control.Local(filepath.Join(runDir, node.ClientSocket)).Call(ctx, control.OpDisconnect, control.Nothing{}, nil)
	if err == nil {
		return a.disconnected(ctx, runDir)
	}
	if control.CodeOf(err) != control.CodeUnreachable {
		return err
	}
	// No client runs. One that was killed left this file and what it describes.
	left := filepath.Join(runDir, clientState)
	if _, missing := os.Stat(left); missing != nil {
		return control.Errorf(control.CodeUnreachable, "meshcrypt connect, or name its --run-dir", "no client runs here (%s)", runDir)
	}
	if err := host.Restore(left); err != nil {
		return err
	}
	a.say("No client was running; what a killed one had left is removed.")
	return nil
}

// disconnected waits until the client has given the host back.
func (a *app) disconnected(ctx context.Context, runDir string) error {
	look := time.NewTicker(pollEvery)
	defer look.Stop()
	for {
		if _, err := os.Stat(filepath.Join(runDir, clientState)); errors.Is(err, fs.ErrNotExist) {
			a.say("Disconnected.")
			return nil
		}
		select {
		case <-ctx.Done():
			return control.Errorf(control.CodeFailed, "look at the client's log", "the client was told to end, and did not")
		case <-look.C:
		}
	}
}
