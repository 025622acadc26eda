package masquerade

import (
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/node/netstack"
)

// thisHost is the network whose addresses a kernel takes for its own (RFC 1122,
// 3.2.1.3), whoever writes them.
var thisHost = netip.MustParsePrefix("0.0.0.0/8")

// may reports whether a flow may begin. Nothing but what the mesh offers is
// reached. Loopback and link-local addresses are this host's and its
// neighbours' private matter, so a prefix that only happens to hold them, such
// as a default route, does not offer them: one of their own has to be named.
func (e *Egress) may(f netstack.Flow) bool {
	to := f.To.Addr().Unmap()
	switch {
	case !to.IsValid(), to.IsUnspecified(), to.IsMulticast(), thisHost.Contains(to),
		to == netip.AddrFrom4([4]byte{255, 255, 255, 255}), f.To.Port() == 0:
		return false
	case f.To.Port() == e.config.InsidePort:
		// There nodes believe each other by address; tests of the path are theirs.
		return slices.Contains(e.config.Tests, f.From.Addr())
	}
	return slices.ContainsFunc(*e.offered.Load(), func(p netip.Prefix) bool {
		return p.Contains(to) && private(p.Addr()) == private(to)
	})
}

// private is 0 for addresses that any prefix may offer.
func private(a netip.Addr) int {
	switch {
	case a.IsLoopback():
		return 1
	case a.IsLinkLocalUnicast():
		return 2
	}
	return 0
}
