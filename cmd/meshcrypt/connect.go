package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/host"
)

const connectHelp = `Open a session with a mesh and route the networks it offers into the tunnel,
until Ctrl-C or meshcrypt disconnect.

Without root, or with --proxy, nothing of this host changes: programs enter the
tunnel through a SOCKS5 and HTTP proxy on one port, by TCP and UDP. What the mesh
does not offer is refused there, never sent another way.

The mesh is recognised by its CA hash, from a profile or behind the # of the
gateway; without one, connect refuses. Any gateway will do: the client learns
the others, and moves to the next when one falls silent.

--slice-mode says how packets are spread over the slices of the session:
  auto     a slice for each flow, and one flow over several only while an agent
           is full and it pays
  burst    one flow over all slices, by bytes and share
  packet   up, packet i to agent i mod N, each 1/N, as the patent has it; down,
           1/N of the bytes by whole bursts
  flowlet  a flow changes its slice only in a pause that hides the difference of
           the paths
  pin      a slice for each flow, for as long as that slice is there
UDP, IPsec, GRE and fragments stay on one slice in every mode.

--peer names one node, and the tunnel ends on that host itself: all its slices are
there, and it leads to no other. Without it, packets for the host of an agent take
that agent's slice. Either way they are in clear on no network.

This host is known to the mesh as one device, by a random id that --data-dir keeps
(for root /var/lib/meshcrypt, else ~/.local/state/meshcrypt): a new start ends the
session that a killed one left, and has its addresses. Two hosts with copies of one
data directory end each other's sessions.

What the mesh offers wins over the networks that this host is attached to, or
whoever runs one of them could take what is meant for the tunnel. status names
each that is hidden. --except keeps a private network out of the tunnel, and
local = true in the profile all that this host is attached to; never a public
one. Networks of bridges on this host, as of containers, are kept by themselves.

Ctrl-C, SIGTERM, SIGHUP and disconnect end the session and open this host again.
After any other end, as when the mesh ends the session or the client is killed,
what the mesh offered stays blocked, so that nothing meant for the tunnel leaves
in clear: connect takes that over, and disconnect opens it.`

const connectExample = `  sudo meshcrypt connect --profile ann.toml
  sudo meshcrypt connect --profile ann.toml --password-file secret --bandwidth 2gbit
  sudo meshcrypt connect --profile ann.toml --cert ann.crt --key ann.key
  sudo meshcrypt connect 203.0.113.7#n5s3... --user ann
  sudo meshcrypt connect --profile ann.toml --peer files
  sudo meshcrypt connect --profile ann.toml --except 10.1.2.0/24
  meshcrypt connect --profile ann.toml --proxy 127.0.0.1:1080    # no root`

// connectFlags are how somebody connects.
type connectFlags struct {
	login                   loginFlags
	profile, user           string
	bandwidth, mode, shares string
	sprayUDP                bool
	suites, except          []string
	tun, runDir, logLevel   string
	peer                    string
	proxy                   proxyFlags
}

func (a *app) connectCommand() *cobra.Command {
	var f connectFlags
	cmd := &cobra.Command{
		Use: "connect [--profile FILE | <gateway>#<CA hash>]", Short: "reach the company's network through a mesh",
		Long: connectHelp, Example: connectExample, Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.proxy.instead = !hasNetAdmin() && !cmd.Flags().Changed("tun")
			if !cmd.Flags().Changed("data-dir") {
				a.dataDir = clientDataDir(a.dataDir)
			}
			return a.connect(cmd.Context(), f, args)
		},
	}
	f.add(cmd.Flags())
	return cmd
}

func (f *connectFlags) add(flags *pflag.FlagSet) {
	f.proxy.add(flags)
	flags.StringVar(&f.profile, "profile", "", "profile, as meshcrypt client profile prints it")
	flags.StringVar(&f.user, "user", "", "who connects (default: the profile's user, or whom --cert names)")
	f.login.add(flags)
	flags.StringVar(&f.bandwidth, "bandwidth", "", "bandwidth wanted, such as 2gbit (default: what the mesh gives)")
	flags.StringVar(&f.mode, "slice-mode", "", "how packets are spread over the slices, see above (default: what the mesh says, mostly auto)")
	flags.StringVar(&f.shares, "slice-shares", "capacity", "how much each slice gets: capacity, or equal for 1/N each")
	flags.BoolVar(&f.sprayUDP, "spray-udp", false, "spread one flow of UDP over several slices too, out of order; never QUIC and IPsec")
	flags.StringSliceVar(&f.suites, "suite", nil, "ciphers offered, best first: "+suiteNames()+" (default: all, in the order that suits this CPU)")
	flags.StringVar(&f.peer, "peer", "", "node to reach itself: the tunnel ends on it, and leads nowhere else")
	flags.StringSliceVar(&f.except, "except", nil, "private networks to keep out of the tunnel, such as 10.1.2.0/24")
	flags.StringVar(&f.tun, "tun", "mesh0", "name of the TUN interface")
	runDirFlag(flags, &f.runDir)
	logFlag(flags, &f.logLevel)
}

func (a *app) connect(ctx context.Context, f connectFlags, args []string) error {
	config, err := f.config(ctx, args)
	if err != nil {
		return err
	}
	if config.Profile.Cluster == (identity.ClusterID{}) {
		if config.Profile.Cluster, err = a.learnCluster(ctx, config.Profile); err != nil {
			return err
		}
	}
	if config.Proxy != nil && f.proxy.listen == "" {
		a.say("No root, so no TUN and no routes: programs enter the tunnel by the SOCKS5 and HTTP proxy on %s.", config.Proxy.Listen)
	}
	user, err := f.logIn(ctx, a, &config)
	if err != nil {
		return err
	}
	config.User, config.DataDir = user, a.dataDir
	config.Ready = func() {
		a.say("Connected as %s. Ctrl-C, or meshcrypt disconnect, ends it.", user)
		if config.Proxy != nil {
			a.say("Try: curl --proxy socks5h://%s http://ADDRESS/", config.Proxy.Listen)
		}
	}
	config.Waiting = a.sayWaiting
	return a.stillClosed(config, a.session(ctx, config, f.logLevel))
}

// stillClosed says so where an earlier client had left this host closed, and this
// one ended before it took its place.
func (a *app) stillClosed(config node.ConnectConfig, err error) error {
	var shut *node.Shut
	if config.Proxy != nil || errors.As(err, &shut) {
		return err
	}
	switch closed := leftClosed(config.RunDir); {
	case closed == nil:
	case isOpen(*closed):
		a.say("This host is open: %s.", closedLine(*closed))
	default:
		a.say("This host is still %s.", closedLine(*closed))
	}
	return err
}

// sayWaiting tells who waits for what.
func (a *app) sayWaiting(err error, within time.Duration) {
	a.say("The mesh does not let us in yet; trying for %v: %s", within, oneLine(err))
}

// logIn finds out who connects, and how.
func (f connectFlags) logIn(ctx context.Context, a *app, config *node.ConnectConfig) (user string, err error) {
	method, err := f.login.method(config.Profile)
	if err != nil {
		return "", err
	}
	if user = cmp.Or(f.user, config.Profile.User); user == "" {
		if user, err = f.login.user(method, config.Profile); err != nil {
			return "", err
		}
	}
	if err := auth.CheckUser(user); err != nil {
		return "", usage("give --user NAME, or a profile that meshcrypt client profile wrote", "the user's name: %v", err)
	}
	config.Login, err = f.login.login(ctx, a, method, user, config.Profile)
	return user, err
}

// password is asked for when it is needed, not before.
func (s secretSource) password(user string) func() ([]byte, error) {
	return func() ([]byte, error) { return s.read("password for " + user) }
}

func (f connectFlags) config(ctx context.Context, args []string) (config node.ConnectConfig, err error) {
	config.Mode, config.SprayUDP, config.TUN, config.RunDir = f.mode, f.sprayUDP, f.tun, f.runDir
	odd := func(r rune) bool { return r < ' ' || r > '~' }
	if config.Peer = f.peer; len(f.peer) > mka.MaxPeer || strings.ContainsFunc(f.peer, odd) {
		return config, usage("meshcrypt members", "--peer %q is no node's name", f.peer)
	}
	if f.mode != "" && !slices.Contains(node.SliceModes(), f.mode) {
		return config, usage("--slice-mode auto", "--slice-mode %q is none of %s", f.mode, strings.Join(node.SliceModes(), ", "))
	}
	switch f.shares {
	case "", "capacity": // the default is not asked for: an older mesh would not know the word
	case "equal":
		config.Shares = f.shares
	default:
		return config, usage("--slice-shares equal", "--slice-shares %q is neither capacity nor equal", f.shares)
	}
	if config.Bandwidth, err = bandwidth(f.bandwidth); err != nil {
		return config, err
	}
	if config.Suites, err = suites("--suite", f.suites); err != nil {
		return config, err
	}
	if config.Proxy, err = f.proxy.config(); err != nil {
		return config, err
	}
	if config.Profile, err = f.anchor(ctx, args); err != nil {
		return config, err
	}
	if config.Wishes, err = f.wishes(config); err != nil {
		return config, err
	}
	if f.user == "" && config.Profile.User == "" && f.login.cert == "" {
		return config, usage("--user NAME", "who connects? neither the profile nor --user says")
	}
	return config, nil
}

// wishes are what is to be kept out of the tunnel.
func (f connectFlags) wishes(config node.ConnectConfig) (w host.Wishes, err error) {
	if config.Proxy != nil {
		if len(f.except) > 0 {
			return w, usage("leave --except out", "a client behind a proxy takes no network from this host, so there is nothing to except")
		}
		return w, nil
	}
	if len(f.except) > host.MaxExcept {
		return w, usage("name wider prefixes", "%d prefixes behind --except, at most %d", len(f.except), host.MaxExcept)
	}
	for _, text := range f.except {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return w, usage("--except 10.1.2.0/24", "--except %q is no prefix", text)
		}
		if err := host.CheckException(p); err != nil {
			return w, usage("name a private network, or meshcrypt disconnect", "--except: %v", err)
		}
		w.Except = append(w.Except, p.Masked())
	}
	w.Local = config.Profile.Local
	return w, nil
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
		return profile, control.Errorf(control.CodeUnreachable, "name a gateway by its address, or meshcrypt disconnect if an earlier client left this host closed", "%v", err)
	}
	for _, addr := range found {
		profile.Gateways = append(profile.Gateways, netip.AddrPortFrom(addr.Unmap(), uint16(port)))
	}
	return profile, nil
}
