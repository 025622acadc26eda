package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node"
)

const initHelp = `Found a mesh: this host becomes its first member, sole voter and arbiter.

It prints three things once. The recovery key opens the registry's secrets when
every voter is lost: write it down and keep it away from the hosts. The join
line, run on other hosts, makes the next members; its token serves 4 hosts
within an hour. The CA hash is how clients and joiners recognise this mesh.

--inside-address is an address of the inside network that no host owns: replies
to clients are routed to it, and it moves to another member when one fails.
Give one per part that the pool is to be cut into, in each family that clients
are to reach; each host inside needs a route for the pool to it. A client gets
an address of each family of the pool.

With --egress masquerade no host inside needs a route: it sees clients as their
part's inside address, and their connections survive a failing member.

With --userspace this host needs no root and stays as it is: it has no TUN.
Connections of clients end in the daemon of their session's egress, which opens
others to the --push networks in this host's name. They die with that daemon;
those through other members' daemons go on. Hosts with and without a TUN may be
in one mesh. Ping is refused. Loopback and link-local addresses are reached only
where --push names such a prefix itself.`

const initExample = `  sudo meshcrypt init --run
  sudo meshcrypt init --inside-if eth1 --inside-address 10.20.0.200 --push 10.20.0.0/16
  sudo meshcrypt init --inside-if eth1 --inside-address 10.20.0.200 --egress masquerade
  sudo meshcrypt init --inside-if eth1 --dns 10.20.0.53 --search corp.example
  sudo meshcrypt init --inside-if eth1 --pool 10.77.0.0/16,fd77::/64 --inside-address 10.20.0.200,fd20::200
  sudo meshcrypt init --inside-if eth1 --inside-address 10.20.0.200 --direct
  sudo meshcrypt init --listen [2001:db8::7]:6484 --capacity 2
  meshcrypt init --run --userspace --push 10.20.0.0/24 --data-dir ~/mesh`

// initFlags are what init decides for the life of the mesh.
type initFlags struct {
	place                       placeFlags
	pool, insideAddresses, push []string
	dns, search, suites         []string
	sliceModes                  []string
	egress, handOn, logLevel    string
	direct, run                 bool
}

func (a *app) initCommand() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use: "init", Short: "found a mesh with this host as its first member",
		Long: initHelp, Example: initExample, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.initMesh(cmd.Context(), f) },
	}
	flags := cmd.Flags()
	f.place.add(flags)
	flags.StringSliceVar(&f.pool, "pool", nil, "prefixes that clients' inner addresses come from, of one family or both (default: 10.77.0.0/16 and a /64 of the mesh's own)")
	flags.StringVar(&f.egress, "egress", "", "how replies find back to clients: routed or masquerade (default: routed; with --userspace masquerade)")
	flags.StringSliceVar(&f.insideAddresses, "inside-address", nil, "moving address of the inside network, one per part of the pool and family")
	flags.StringSliceVar(&f.push, "push", nil, "prefixes that clients reach through the mesh (default: the networks of the inside interface, in the families of --inside-address)")
	flags.StringSliceVar(&f.dns, "dns", nil, "DNS servers that clients ask through the mesh, within a pushed prefix")
	flags.StringSliceVar(&f.search, "search", nil, "domains below which clients look for short names")
	flags.StringSliceVar(&f.suites, "suites", nil, "ciphers that sessions may use, best first: "+suiteNames()+" (default: any, in the client's order)")
	flags.StringSliceVar(&f.sliceModes, "slice-modes", nil, "slicing modes that clients may ask for, the first for those that do not (default: all, auto first)")
	flags.StringVar(&f.handOn, "hand-on", "", "how plaintext passes between members over the inside network: clear or sealed (default: clear, and sealed while strangers reach the inside interface of a member)")
	flags.BoolVar(&f.direct, "direct", false, "let clients send straight to their agents' outer addresses where those answer, and through a gateway where not")
	flags.BoolVar(&f.run, "run", false, "run the node afterwards, as meshcrypt run does")
	logFlag(flags, &f.logLevel)
	return cmd
}

func (a *app) initMesh(ctx context.Context, f initFlags) error {
	config, err := f.config()
	if err != nil {
		return err
	}
	log, err := a.logger(f.logLevel)
	if err != nil {
		return err
	}
	founded, err := a.found(config)
	if err != nil {
		return err
	}
	if err := a.printFounded(founded, config, f.place.insideIf); err != nil {
		return err
	}
	if f.run {
		return a.serve(ctx, log, false)
	}
	a.say("Start it: %s", a.runLine())
	return nil
}

func (f initFlags) config() (config node.FoundConfig, err error) {
	if err := f.checkUserspace(); err != nil {
		return config, err
	}
	switch f.egress {
	case "":
		config.Egress = "routed"
		if f.place.userspace {
			config.Egress = "masquerade"
		}
	case "routed":
		config.Egress = "routed"
	case "masquerade":
		config.Egress = "masquerade"
	default:
		return config, usage("--egress routed, or --egress masquerade", "unknown --egress %q", f.egress)
	}
	for _, mode := range f.sliceModes {
		if !slices.Contains(node.SliceModes(), mode) {
			return config, usage("--slice-modes auto,pin", "--slice-modes: %q is none of %s", mode, strings.Join(node.SliceModes(), ", "))
		}
	}
	config.Modes, config.Direct = f.sliceModes, f.direct
	if config.Place, err = f.place.place(); err != nil {
		return config, err
	}
	if config.Pool, err = prefixes("--pool", f.pool); err != nil {
		return config, err
	}
	if err := f.checkHandOn(config.Place); err != nil {
		return config, err
	}
	if f.handOn == "sealed" {
		config.HandOn = "sealed"
	}
	if config.Suites, err = suites("--suites", f.suites); err != nil {
		return config, err
	}
	if config.Moving, err = addresses("--inside-address", f.insideAddresses); err != nil {
		return config, err
	}
	if len(config.Moving) > 0 && f.place.insideIf == "" {
		return config, usage("--inside-if eth1", "--inside-address needs the interface it lives on")
	}
	if err := checkInside(config); err != nil {
		return config, err
	}
	if len(f.push) == 0 {
		config.Prefixes, err = insideNetworks(config.Place.InsideIf)
		config.Prefixes = answering(config.Prefixes, config.Moving)
	} else {
		config.Prefixes, err = prefixes("--push", f.push)
	}
	if err != nil {
		return config, err
	}
	return config, f.names(&config)
}

// checkHandOn refuses clear where strangers could hand on too.
func (f initFlags) checkHandOn(place node.Place) error {
	switch f.handOn {
	case "", "sealed":
	case "clear":
		if place.Exposed {
			return usage("leave --hand-on out, or name another --inside-if",
				"--hand-on clear: strangers reach this host's inside address %s, and could send in the name of any member", place.Inside)
		}
	default:
		return usage("--hand-on sealed", "unknown --hand-on %q: there are clear and sealed", f.handOn)
	}
	return nil
}

// checkUserspace refuses what a node without a TUN cannot do.
func (f initFlags) checkUserspace() error {
	switch {
	case !f.place.userspace:
	case f.egress == "routed":
		return usage("--egress masquerade", "--userspace: a node without a TUN can only masquerade")
	case len(f.insideAddresses) > 0:
		return usage("leave --inside-address out", "--userspace: no address moves to a host that stays as it is")
	case len(f.push) == 0 && f.place.insideIf == "":
		return usage("--push 10.20.0.0/24, or --inside-if eth1", "--userspace: no network is named that clients may reach")
	}
	return nil
}

// names reads what clients are to resolve names by.
func (f initFlags) names(config *node.FoundConfig) (err error) {
	if config.DNS, err = addresses("--dns", f.dns); err != nil {
		return err
	}
	for _, server := range config.DNS {
		if !slices.ContainsFunc(config.Prefixes, func(p netip.Prefix) bool { return p.Contains(server) }) {
			return usage("--push "+netip.PrefixFrom(server, server.BitLen()).String()+" as well",
				"--dns %s: clients do not reach it, for no pushed prefix has it", server)
		}
	}
	config.Search = f.search
	return nil
}

// foundedReply is init's data.
type foundedReply struct {
	Schema   string         `json:"schema"`
	Cluster  string         `json:"cluster"`
	CAHash   string         `json:"ca_hash"`
	Gateway  netip.AddrPort `json:"gateway"`
	Pool     []netip.Prefix `json:"pool"`
	Recovery string         `json:"recovery_key"`
	Token    string         `json:"token"`
	Join     string         `json:"join"`
}

func (a *app) printFounded(f node.Founded, config node.FoundConfig, insideIf string) error {
	reply := foundedReply{
		Schema: "meshcrypt.init/v1", Cluster: f.Cluster.String(), CAHash: pki.FormatHash(f.CAHash),
		Gateway: config.Place.Outer, Pool: f.Pool, Recovery: f.Recovery, Token: f.Token,
		Join: joinLine(config.Place.Outer, f.Token, insideIf, config.Place.Userspace),
	}
	err := a.print(reply, func(w io.Writer) {
		row(w, "Cluster", reply.Cluster)
		row(w, "Gateway", reply.Gateway.String()+"#"+reply.CAHash)
		row(w, "Pool", words(reply.Pool))
		row(w, "Recovery key", reply.Recovery)
		fmt.Fprintf(w, "\nJoin line for the next hosts (%d uses, %s):\n%s\n", node.FirstTokenUses, age(node.FirstTokenLife), reply.Join)
	})
	a.say("%s", foundedAdvice)
	switch {
	case config.Place.Userspace:
		a.say("%s", userspaceAdvice)
	case config.Egress == "masquerade" && len(config.Moving) == 0:
		a.say("%s", noMovingAdvice)
	}
	return err
}

const foundedAdvice = `Write the recovery key down now: it is stored nowhere and never shown again.
Two hosts alone do not replace each other as arbiter: should the founder die, sessions
run on without it, and new ones wait for it. With a third host that happens by itself.`

const userspaceAdvice = `Connections of clients end in a member's daemon: they break when it stops.`

const noMovingAdvice = `Without --inside-address clients are hidden behind the address of whichever member they
pass: their connections break when it fails.`

// joinLine is ready to paste on the next host: the token goes by stdin, so
// that it stands in no process list.
func joinLine(outer netip.AddrPort, token, insideIf string, userspace bool) string {
	line := []string{"echo", token, "|"}
	if !userspace {
		line = append(line, "sudo")
	}
	line = append(line, "meshcrypt", "join", outer.String(), "--token-file", "-")
	if insideIf != "" {
		line = append(line, "--inside-if", insideIf)
	}
	if userspace {
		line = append(line, "--userspace", "--data-dir", "~/mesh")
	}
	return strings.Join(line, " ")
}
