package main

import (
	"cmp"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/host"
)

// placeFlags are what init and join say of this host.
type placeFlags struct {
	name, listen          string
	advertise             []string
	insideIf, inside, tun string
	capacity              float64
	userspace             bool
}

func (p *placeFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&p.name, "name", "", "name of this node (default: the host's name)")
	flags.StringVar(&p.listen, "listen", defaultListen(), "address and port to listen on, UDP and TCP; [::] is both families")
	flags.StringSliceVar(&p.advertise, "advertise", nil, "address where clients and nodes reach this host, or one of each family, the one for gossip first (default: the first lasting ones of an interface)")
	flags.StringVar(&p.insideIf, "inside-if", "", "interface of the company's network (default: the one that has the advertised address)")
	flags.StringVar(&p.inside, "inside", "", "own address there (default: first address of --inside-if; without it the advertised one)")
	flags.StringVar(&p.tun, "tun", "mesh0", "name of the TUN interface")
	flags.BoolVar(&p.userspace, "userspace", false, "no TUN and no change to this host, so no root: flows of clients end in the process, and die with it (the mesh masquerades)")
	flags.Float64Var(&p.capacity, "capacity", 0, "CPUs offered to the mesh, such as 1.5 (default: all)")
}

// defaultListen is every address of every family this host has.
func defaultListen() string { return netip.AddrPortFrom(host.Unspecified(), DefaultPort).String() }

// place resolves the flags against this host's interfaces.
func (p *placeFlags) place() (place node.Place, err error) {
	if place.Name, err = p.hostName(); err != nil {
		return place, err
	}
	if place.Listen, err = addrPort("--listen", p.listen, DefaultPort); err != nil {
		return place, err
	}
	if err = checkListen(place.Listen); err != nil {
		return place, err
	}
	if place.Outer, place.Other, err = p.outers(place.Listen); err != nil {
		return place, err
	}
	if place.InsideIf, err = p.insideInterface(place.Outer.Addr()); err != nil {
		return place, err
	}
	if place.Inside, err = p.insideAddress(place.Outer.Addr(), place.InsideIf); err != nil {
		return place, err
	}
	outers := []netip.Addr{place.Outer.Addr(), place.Other.Addr(), place.Listen.Addr()}
	if place.Exposed, err = host.Exposed(place.InsideIf, outers); err != nil {
		return place, err
	}
	if p.capacity < 0 || p.capacity > MaxCapacity || math.IsNaN(p.capacity) {
		return place, usage("--capacity 2", "--capacity %v: want 0 to %d CPUs", p.capacity, MaxCapacity)
	}
	place.Capacity = uint32(math.Round(p.capacity * 1000))
	place.TUN, place.Userspace = p.tun, p.userspace
	return place, nil
}

func (p *placeFlags) hostName() (string, error) {
	if p.name != "" {
		return p.name, nil
	}
	name, err := os.Hostname()
	if err != nil || name == "" {
		return "", usage("--name a", "this host has no name")
	}
	name, _, _ = strings.Cut(name, ".")
	return name, nil
}

// outers are where others reach this host: one address, or one of each family.
func (p *placeFlags) outers(listen netip.AddrPort) (outer, other netip.AddrPort, err error) {
	switch {
	case len(p.advertise) > 0:
		return advertised(p.advertise, listen.Port())
	case !listen.Addr().IsUnspecified():
		return listen, other, nil
	}
	first, second, err := ownAddresses(listen.Addr())
	if err != nil {
		return outer, other, err
	}
	if second.IsValid() {
		other = netip.AddrPortFrom(second, listen.Port())
	}
	return netip.AddrPortFrom(first, listen.Port()), other, nil
}

func advertised(texts []string, port uint16) (outer, other netip.AddrPort, err error) {
	var all [2]netip.AddrPort
	if len(texts) > len(all) {
		return outer, other, usage("--advertise ADDRESS", "--advertise has %d addresses, one of each family will do", len(texts))
	}
	for i, text := range texts {
		if all[i], err = addrPort("--advertise", text, port); err != nil {
			return outer, other, err
		}
	}
	if all[0].Addr().BitLen() == all[1].Addr().BitLen() {
		return outer, other, usage("--advertise ADDRESS", "--advertise %s,%s are of one family", all[0], all[1])
	}
	return all[0], all[1], nil
}

// ownAddresses are the first lasting address of this host that a socket at
// listen serves, and the same interface's one of the other family.
func ownAddresses(listen netip.Addr) (first, second netip.Addr, err error) {
	legs, err := ownLegs()
	if err != nil {
		return first, second, err
	}
	for _, l := range legs {
		switch four, six := families(l.addresses); {
		case listen.Is4() && four.IsValid():
			return four.Addr(), second, nil
		case listen.Is6() && four.IsValid():
			return four.Addr(), six.Addr(), nil
		case listen.Is6() && six.IsValid():
			first = cmp.Or(first, six.Addr()) // an interface with IPv4 comes before
		}
	}
	if !first.IsValid() {
		return first, second, usage("--advertise ADDRESS", "this host has no global unicast address to advertise")
	}
	return first, second, nil
}

// families are the first address of each family.
func families(all []netip.Prefix) (four, six netip.Prefix) {
	for _, p := range slices.Backward(all) {
		if p.Addr().Is4() {
			four = p
		} else {
			six = p
		}
	}
	return four, six
}

// insideInterface is the one named, else, for a host with one leg, the one where it
// is reached; behind a NAT the first that has an address. Without a TUN none is needed.
func (p *placeFlags) insideInterface(outer netip.Addr) (name string, err error) {
	if p.insideIf != "" || p.userspace {
		return p.insideIf, nil
	}
	legs, err := ownLegs()
	return legOf(legs, outer), err
}

// leg is an interface with its lasting addresses.
type leg struct {
	name      string
	addresses []netip.Prefix
}

func ownLegs() (legs []leg, err error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, link := range links {
		all, err := host.Addresses(link.Name)
		if err != nil {
			return nil, err
		}
		legs = append(legs, leg{link.Name, all})
	}
	return legs, nil
}

// legOf is the interface with an address, else the first that has any.
func legOf(legs []leg, a netip.Addr) (name string) {
	for _, l := range legs {
		if has(l.addresses, a) {
			return l.name
		}
		if len(l.addresses) > 0 {
			name = cmp.Or(name, l.name)
		}
	}
	return name
}

func has(all []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Addr() == a })
}

func (p *placeFlags) insideAddress(outer netip.Addr, device string) (netip.Addr, error) {
	if p.inside != "" {
		return address("--inside", p.inside)
	}
	if device == "" {
		return outer, nil
	}
	all, err := host.Addresses(device)
	if err == nil && p.insideIf == "" && has(all, outer) {
		return outer, nil
	}
	four, six := families(all)
	switch {
	case err != nil:
		return netip.Addr{}, usage("ip link lists the interfaces", "--inside-if %s: %v", device, err)
	case four.IsValid():
		return four.Addr(), nil
	case six.IsValid():
		return six.Addr(), nil
	}
	return netip.Addr{}, usage("--inside ADDRESS", "--inside-if %s has no address", device)
}

// insideNetworks are what clients most likely want to reach: the networks
// that the inside interface is attached to.
func insideNetworks(name string) ([]netip.Prefix, error) {
	if name == "" {
		return nil, nil
	}
	return host.Networks(name)
}

// answering are the networks of a family that has a moving address: from the
// others no reply would find back. Without any, routes are made by hand.
func answering(networks []netip.Prefix, moving []netip.Addr) []netip.Prefix {
	if len(moving) == 0 {
		return networks
	}
	return slices.DeleteFunc(networks, func(p netip.Prefix) bool {
		return !slices.ContainsFunc(moving, func(a netip.Addr) bool { return a.BitLen() == p.Addr().BitLen() })
	})
}

// addrPort reads address:port, or an address alone with the port given.
func addrPort(flag, text string, port uint16) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(a, port), nil
	}
	ap, err := netip.ParseAddrPort(text)
	if err != nil || ap.Port() == 0 {
		return ap, usage(flag+" "+net.JoinHostPort("192.0.2.1", strconv.Itoa(DefaultPort)),
			"%s %q is no IP address and port", flag, text)
	}
	return ap, nil
}

func address(flag, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, usage(flag+" 192.0.2.1", "%s %q is no IP address", flag, text)
	}
	return a, nil
}

func addresses(flag string, list []string) (all []netip.Addr, err error) {
	for _, text := range list {
		a, err := address(flag, text)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

func prefixes(flag string, list []string) (all []netip.Prefix, err error) {
	for _, text := range list {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, usage(flag+" 10.0.0.0/8", "%s %q is no prefix", flag, text)
		}
		if p != p.Masked() {
			return nil, usage(flag+" "+p.Masked().String(), "%s %s has host bits set", flag, p)
		}
		all = append(all, p)
	}
	return all, nil
}

// peerAddress completes host or host:port.
func peerAddress(peer string) string {
	if _, _, err := net.SplitHostPort(peer); err == nil {
		return peer
	}
	return net.JoinHostPort(strings.Trim(peer, "[]"), strconv.Itoa(DefaultPort))
}
