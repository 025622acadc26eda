package node

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/host"
)

// around settles what is pushed with the networks that a client's host is
// attached to, and warns once of each that the tunnel hides.
type around struct {
	config ConnectConfig

	mu      sync.Mutex // protects the fields below
	pushed  []netip.Prefix
	settled host.Neighbourhood
	told    map[string]bool
}

// take settles what the mesh pushes, and applies that.
func (a *around) take(pushed []netip.Prefix, apply func(host.Neighbourhood) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pushed = pushed
	a.settled = a.settle()
	return apply(a.settled)
}

// again settles for the networks of now, and applies what changes a route.
func (a *around) again(apply func(host.Neighbourhood) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.settled
	a.settled = a.settle()
	if slices.Equal(before.Prefixes, a.settled.Prefixes) && slices.Equal(before.Except, a.settled.Except) {
		return nil
	}
	a.config.Log.Info("this host's networks have changed", "except", a.settled.Except)
	return apply(a.settled)
}

func (a *around) settle() host.Neighbourhood {
	local, err := host.LocalNetworks(a.config.TUN)
	if err != nil { // then all that is pushed leads into the tunnel, but what the user named
		a.config.Log.Warn("this host's own networks are not known", "error", err)
	}
	n := host.Settle(a.pushed, local, a.config.Wishes)
	for _, l := range n.Local {
		if l.Way == host.WayHidden || l.Way == host.WayPublic {
			a.warn(l.Prefix, "what the mesh pushes hides a local network", "pushed", l.Pushed, "local", l.Prefix, "device", l.Device, "next", remedy(l))
		}
	}
	for _, p := range n.Left {
		a.warn(p, "a pushed network is excepted whole: packets to it go past the tunnel", "pushed", p)
	}
	return n
}

// warn says a thing once of each network.
func (a *around) warn(of netip.Prefix, what string, args ...any) {
	key := of.String() + what
	if a.told[key] || len(a.told) >= MaxToldNetworks {
		return
	}
	if a.told == nil {
		a.told = make(map[string]bool)
	}
	a.told[key] = true
	a.config.Log.Warn(what, args...)
}

// remedy is what makes a hidden network reachable.
func remedy(l host.LocalWay) string {
	if l.Way == host.WayPublic {
		return "nothing excepts a public range; meshcrypt disconnect"
	}
	return "meshcrypt connect --except " + l.Prefix.String() + ", or local = true in the profile"
}

// rows are for status.
func (a *around) rows() (rows []control.ClientLocal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, l := range a.settled.Local {
		row := control.ClientLocal{Network: l.Prefix, Device: l.Device, Pushed: l.Pushed, Way: control.WayHidden}
		switch l.Way {
		case host.WayOwn:
			row.Way = control.WayOwn
		case host.WayExcepted:
			row.Way = control.WayExcepted
		default:
			row.Remedy = remedy(l)
		}
		rows = append(rows, row)
	}
	return rows
}
