package main

import (
	"math"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/host"
)

// placeFlags are what init and join say of this host.
type placeFlags struct {
	name, listen, advertise string
	insideIf, inside, tun   string
	capacity                float64
}

func (p *placeFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&p.name, "name", "", "name of this node (default: the host's name)")
	flags.StringVar(&p.listen, "listen", defaultListen(), "address and port to listen on, UDP and TCP; [::] is both families")
	flags.StringVar(&p.advertise, "advertise", "", "address where clients and nodes reach this host (default: its first global unicast address)")
	flags.StringVar(&p.insideIf, "inside-if", "", "interface of the company's network")
	flags.StringVar(&p.inside, "inside", "", "own address there (default: first address of --inside-if, else the advertised one)")
	flags.StringVar(&p.tun, "tun", "mesh0", "name of the TUN interface")
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
	if place.Outer, err = p.outer(place.Listen); err != nil {
		return place, err
	}
	if place.Inside, err = p.insideAddress(place.Outer.Addr()); err != nil {
		return place, err
	}
	if p.capacity < 0 || p.capacity > MaxCapacity || math.IsNaN(p.capacity) {
		return place, usage("--capacity 2", "--capacity %v: want 0 to %d CPUs", p.capacity, MaxCapacity)
	}
	place.Capacity = uint32(math.Round(p.capacity * 1000))
	place.InsideIf, place.TUN = p.insideIf, p.tun
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

func (p *placeFlags) outer(listen netip.AddrPort) (netip.AddrPort, error) {
	if p.advertise != "" {
		return addrPort("--advertise", p.advertise, listen.Port())
	}
	if !listen.Addr().IsUnspecified() {
		return listen, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.AddrPort{}, err
	}
	first, ok := firstAddress(addrs)
	if !ok {
		return netip.AddrPort{}, usage("--advertise ADDRESS", "this host has no global unicast address to advertise")
	}
	return netip.AddrPortFrom(first, listen.Port()), nil
}

func (p *placeFlags) insideAddress(outer netip.Addr) (netip.Addr, error) {
	if p.inside != "" {
		return address("--inside", p.inside)
	}
	if p.insideIf == "" {
		return outer, nil
	}
	addrs, err := interfaceAddresses(p.insideIf)
	if err != nil {
		return netip.Addr{}, err
	}
	first, ok := firstAddress(addrs)
	if !ok {
		return netip.Addr{}, usage("--inside ADDRESS", "--inside-if %s has no address", p.insideIf)
	}
	return first, nil
}

func interfaceAddresses(name string) ([]net.Addr, error) {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return nil, usage("ip link lists the interfaces", "--inside-if %s: %v", name, err)
	}
	return link.Addrs()
}

// insideNetworks are what clients most likely want to reach: the networks
// that the inside interface is attached to.
func insideNetworks(name string) (all []netip.Prefix, err error) {
	if name == "" {
		return nil, nil
	}
	addrs, err := interfaceAddresses(name)
	if err != nil {
		return nil, err
	}
	for _, addr := range addrs {
		p, err := netip.ParsePrefix(addr.String())
		if err == nil && p.Addr().IsGlobalUnicast() {
			all = append(all, p.Masked())
		}
	}
	return all, nil
}

// firstAddress prefers IPv4, which the inside network's moving addresses are of.
func firstAddress(addrs []net.Addr) (first netip.Addr, ok bool) {
	for _, addr := range addrs {
		prefix, err := netip.ParsePrefix(addr.String())
		if err != nil || !prefix.Addr().IsGlobalUnicast() {
			continue
		}
		if prefix.Addr().Is4() {
			return prefix.Addr(), true
		}
		if !ok {
			first, ok = prefix.Addr(), true
		}
	}
	return first, ok
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
