package host

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// kind is a sort of thing that is ours on the host. Their order is the one in
// which they are put: what keeps traffic in comes first, what lets it through
// last, so that no moment of it is open.
type kind uint8

const (
	kindBlackhole kind = iota
	kindFence
	kindRule
	kindFilter
	kindSysctl
	kindDevice
	kindAddress
	kindRoute
	kinds
)

var kindNames = [kinds]string{
	"blackhole route", "fence", "rule", "packet filter", "sysctl", "interface", "address", "route",
}

func (k kind) String() string { return kindNames[k] }

// want is what this host is to be like while we run: the one value that set-up,
// watch and put-back share. It is never changed, only replaced.
type want struct {
	tun string
	up  bool // the TUN is there: it has addresses, routes and settings
	// table is the routing table of our routes; mark is on our own packets, which
	// do not follow it. 0: no rule leads to the table, it is the host's main one.
	table, mark int
	closed      []netip.Prefix // blackholes stand for them
	through     []netip.Prefix // lead into the TUN
	except      []netip.Prefix // parts that keep the way they have without us
	sources     []netip.Addr   // of this host's own packets through the TUN
	addresses   []netip.Addr   // of the TUN
	families    []int
	fence       table // outlives us
	filter      table // ends with us
	settings    []setting
}

// route is one of ours, as far as it matters.
type route struct {
	prefix netip.Prefix
	kind   int // RTN_UNICAST, RTN_BLACKHOLE or RTN_THROW
	device int // of RTN_UNICAST
	source netip.Addr
}

// seen is what the host is like at one moment, as far as it is ours.
type seen struct {
	device    int // index of the TUN; 0: there is none
	running   bool
	routes    map[route]bool
	rules     map[int]bool // by family
	addresses map[netip.Addr]bool
	sysctls   map[string]string // values of the wanted ones that are there
	fence     bool              // is whole
	filter    bool
}

// thing is one that lacks. Which fields count is a matter of its kind.
type thing struct {
	kind    kind
	route   route
	family  int
	address netip.Addr
	setting setting
}

// String names it in a sentence.
func (g thing) String() string {
	switch g.kind {
	case kindBlackhole, kindRoute:
		return fmt.Sprintf("the %v to %v", g.kind, g.route.prefix)
	case kindRule:
		return fmt.Sprintf("the rule pref %d of %s", DefaultPriority, map[int]string{unix.AF_INET: "IPv4", unix.AF_INET6: "IPv6"}[g.family])
	case kindSysctl:
		return fmt.Sprintf("the sysctl net/%s=%s", g.setting.name, g.setting.value)
	case kindDevice:
		return "the interface being up"
	case kindAddress:
		return fmt.Sprintf("the address %v", g.address)
	}
	return "the " + g.kind.String()
}

// routes are all of ours for a TUN of that index, 0 for none.
func (w want) routes(device int) (all []route) {
	for _, p := range w.closed {
		all = append(all, route{prefix: p, kind: unix.RTN_BLACKHOLE})
	}
	for _, p := range w.except {
		all = append(all, route{prefix: p, kind: unix.RTN_THROW})
	}
	if !w.up || device == 0 {
		return all
	}
	for _, p := range w.through {
		all = append(all, route{p, unix.RTN_UNICAST, device, sourceFor(p, w.sources...)})
	}
	return all
}

// lacks is what is wanted and not there, in the order to put it.
func (w want) lacks(s seen) (all []thing) {
	for _, r := range w.routes(s.device) {
		if !s.routes[r] {
			all = append(all, thing{kind: r.order(), route: r})
		}
	}
	if !s.fence {
		all = append(all, thing{kind: kindFence})
	}
	if w.mark != 0 {
		for _, family := range w.families {
			if !s.rules[family] {
				all = append(all, thing{kind: kindRule, family: family})
			}
		}
	}
	if !s.filter {
		all = append(all, thing{kind: kindFilter})
	}
	for _, one := range w.settings {
		// What has gone with its interface is missed as the interface.
		if now, there := s.sysctls[one.name]; there && now != one.value {
			all = append(all, thing{kind: kindSysctl, setting: one})
		}
	}
	if w.up && s.device != 0 {
		if !s.running {
			all = append(all, thing{kind: kindDevice})
		}
		for _, a := range w.addresses {
			if !s.addresses[a] {
				all = append(all, thing{kind: kindAddress, address: a})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b thing) int { return int(a.kind) - int(b.kind) })
	return all
}

// order is when a route is put: an exception opens, so it comes last.
func (r route) order() kind {
	if r.kind == unix.RTN_BLACKHOLE {
		return kindBlackhole
	}
	return kindRoute
}
