package main

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/host"
)

// surroundings are what init's addresses are held against.
type surroundings struct {
	inside   string         // the inside interface
	networks []netip.Prefix // of it
	own      []netip.Addr   // of this host, on any interface
}

// look reads them from the host.
func look(insideIf string) (s surroundings, err error) {
	s.inside = insideIf
	if s.networks, err = host.Networks(insideIf); err != nil {
		return s, err
	}
	legs, err := ownLegs()
	for _, l := range legs {
		for _, p := range l.addresses {
			s.own = append(s.own, p.Addr())
		}
	}
	return s, err
}

// checkInside refuses addresses that cannot work, before a mesh is made of them.
func checkInside(config node.FoundConfig) error {
	if config.Place.InsideIf == "" || config.Place.Userspace {
		return nil
	}
	s, err := look(config.Place.InsideIf)
	if err != nil {
		return err
	}
	for _, a := range config.Moving {
		if err := s.checkMoving(a); err != nil {
			return err
		}
	}
	return s.checkPool(config.Pool)
}

// checkMoving is about one address that is to move between the members.
func (s surroundings) checkMoving(a netip.Addr) error {
	const another = "name an address of the inside network that no host has"
	i := slices.IndexFunc(s.networks, func(p netip.Prefix) bool { return p.Contains(a) })
	switch {
	case slices.Contains(s.own, a):
		return usage(another, "--inside-address %s is this host's own: it could not move to another member", a)
	case i < 0:
		return usage("name one of "+s.inside+" (ip address show "+s.inside+"), or another --inside-if",
			"--inside-address %s is in no network of %s (%s)", a, s.inside, words(s.networks))
	case speaksToAll(s.networks[i], a):
		return usage(another, "--inside-address %s is no host's: it means all hosts, or all routers, of %s", a, s.networks[i])
	}
	return nil
}

// speaksToAll is about the first and the last address of a network; one of two
// addresses has none of these (RFC 3021, RFC 6164).
func speaksToAll(p netip.Prefix, a netip.Addr) bool {
	if p.Bits() >= p.Addr().BitLen()-1 {
		return false
	}
	return a == p.Masked().Addr() || a.Is4() && !p.Contains(a.Next())
}

// checkPool refuses a pool that hosts inside have addresses of.
func (s surroundings) checkPool(pool []netip.Prefix) error {
	if len(pool) == 0 {
		pool = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")} // see init --help
	}
	for _, p := range pool {
		for _, network := range s.networks {
			if p.Overlaps(network) {
				return usage("name a network that nobody uses, such as --pool 10.78.0.0/16",
					"the pool %s overlaps with %s, a network of %s: hosts there would not answer clients", p, network, s.inside)
			}
		}
	}
	return nil
}

func isOwn(a netip.Addr) bool {
	legs, err := ownLegs()
	return err != nil || slices.ContainsFunc(legs, func(l leg) bool { return has(l.addresses, a) })
}

// checkListen refuses an address that this host does not have.
func checkListen(at netip.AddrPort) error {
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), 0)))
	// An IPv6 address that is only just given cannot be had yet.
	if errors.Is(err, syscall.EADDRNOTAVAIL) && !isOwn(at.Addr()) {
		return usage("ip address lists this host's; behind a NAT leave --listen out, and say by --advertise where it is reached",
			"--listen %s: this host does not have that address", at.Addr())
	}
	if err == nil {
		socket.Close()
	}
	return nil // whatever else there is, run says
}
