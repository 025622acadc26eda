package demo

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
)

// The ports of a demo on one host, counted from its first: mesh, gossip and inside at each
// node's address, then the web server's and the proxy's at theirs.
const (
	webOffset   = 3
	proxyOffset = 4
	portsOfDemo = 5
)

// Where ports are looked for when those of a mesh are taken: below those that the kernel gives
// to whoever connects.
const searchFrom, searchTo = 20000, 30000

// findOneHost looks for ports that no other demo has and that are free at every address.
func findOneHost(nodes int) (*oneHost, error) {
	first := uint16(meshPort)
	var err error
	for range maxPortTries {
		var o *oneHost
		if o, err = takeOneHost(first, nodes); err == nil {
			return o, nil
		}
		// In steps of a whole demo: two that begin at different ports share none.
		first = uint16(searchFrom + portsOfDemo*rand.IntN((searchTo-searchFrom)/portsOfDemo))
	}
	return nil, &Failed{fmt.Errorf("no free ports on %s and its neighbours after %d tries, the last one: %w", nodeHere(0), maxPortTries, err),
		"ss -lntup shows who holds them"}
}

// takeOneHost claims the ports of one demo, and gives the claim back if something else has one
// of them.
func takeOneHost(first uint16, nodes int) (*oneHost, error) {
	claim, err := claimPorts(first)
	if err != nil {
		return nil, err
	}
	o := &oneHost{port: first, claim: claim}
	if err := o.free(nodes); err != nil {
		return nil, errors.Join(err, claim.Close())
	}
	return o, nil
}

// claimPorts keeps other demos from these ports, whoever runs them, until it is closed: between
// the look whether a port is free and the process that takes it there is time for another demo
// to look. The claim is a name that one socket of this network namespace can have, as one can
// have each of the ports. The kernel forgets it with its process, however that ends.
func claimPorts(first uint16) (net.Listener, error) {
	return net.Listen("unix", fmt.Sprintf("@meshcrypt-demo-%d", first))
}

// free reports whether nothing has one of the ports.
func (o *oneHost) free(nodes int) error {
	for i := range nodes {
		for port := o.port; port < o.port+webOffset; port++ {
			at := netip.AddrPortFrom(nodeHere(i), port)
			if err := freeTCP(at.String()); err != nil {
				return err
			}
			udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
			if err != nil {
				return err
			}
			udp.Close()
		}
	}
	return errors.Join(freeTCP(o.web()), freeTCP(o.proxyAt()))
}

func freeTCP(at string) error {
	l, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	return l.Close()
}
