package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// prefixes are masked, unmapped, sorted and unique.
func normalize(what string, limit int, prefixes []netip.Prefix) ([]netip.Prefix, error) {
	if len(prefixes) > limit {
		return nil, fmt.Errorf("%w: %d prefixes in the %s, at most %d", ErrConfig, len(prefixes), what, limit)
	}
	out := make([]netip.Prefix, 0, len(prefixes))
	for _, p := range prefixes {
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%w: %v in the %s is no prefix", ErrConfig, p, what)
		}
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Compare(b) })
	return slices.Compact(out), nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

func family(a netip.Addr) int {
	if a.Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}

func blackhole(p netip.Prefix, table int) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(p), Family: family(p.Addr()), Table: table, Type: unix.RTN_BLACKHOLE,
		Protocol: Protocol, Priority: metricBlackhole,
	}
}

// throw sends a prefix back to the rules behind ours, and so to the way that it
// has without us.
func throw(p netip.Prefix, table int) *netlink.Route {
	return &netlink.Route{
		Dst: ipNet(p), Family: family(p.Addr()), Table: table, Type: unix.RTN_THROW,
		Protocol: Protocol, Priority: metricTUN,
	}
}

// sourceFor is the first address of a prefix's family; zero lets the kernel choose.
func sourceFor(p netip.Prefix, addrs ...netip.Addr) netip.Addr {
	for _, a := range addrs {
		if a.IsValid() && a.Is4() == p.Addr().Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// viaTUN is a route into the tunnel; src may be zero.
func viaTUN(p netip.Prefix, table, index int, src netip.Addr) *netlink.Route {
	r := &netlink.Route{
		Dst: ipNet(p), Family: family(p.Addr()), Table: table, LinkIndex: index,
		Protocol: Protocol, Priority: metricTUN,
	}
	if p.Addr().Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	if src.IsValid() {
		r.Src = src.AsSlice()
	}
	return r
}

func addRoute(r *netlink.Route) error {
	if err := netlink.RouteReplace(r); err != nil {
		return failed(err, fmt.Sprintf("see `ip route show table %d`", r.Table), "add the route to %v", r.Dst)
	}
	return nil
}

// ourRoutes lists the routes of one table with our protocol number. The kernel
// picks them out where it can, for a host may have a million others.
func ourRoutes(table int) (all []netlink.Route, err error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, failed(err, "see `ip route`", "list the routes of table %d", table)
	}
	defer handle.Close()
	_ = handle.SetStrictCheck(true) // before Linux 4.20 all are listed
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := handle.RouteListFiltered(family,
			&netlink.Route{Table: table, Protocol: Protocol},
			netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
		switch {
		case errors.Is(err, unix.ENOENT): // the table has never had a route
		case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		case err != nil:
			return nil, failed(err, "see `ip route`", "list the routes of table %d", table)
		}
		all = append(all, routes...)
	}
	return all, nil
}

// sweepRoutes deletes our routes of one table unless keep says otherwise.
func sweepRoutes(table int, keep func(netlink.Route) bool) error {
	routes, err := ourRoutes(table)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range routes {
		if keep(r) {
			continue
		}
		if err := netlink.RouteDel(&r); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, failed(err, fmt.Sprintf("try `ip route flush proto %d table %d`", Protocol, table),
				"delete the route to %v", r.Dst))
		}
	}
	return errors.Join(errs...)
}

func isBlackhole(r netlink.Route) bool { return r.Type == unix.RTN_BLACKHOLE }

// prefixOf is where a route leads.
func prefixOf(r netlink.Route) (netip.Prefix, bool) {
	if r.Dst == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(r.Dst.IP)
	ones, bits := r.Dst.Mask.Size()
	if bits == 32 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, ones), ok
}

// netlinkRoute is a route of ours as the kernel takes it.
func (r route) netlinkRoute(table int) *netlink.Route {
	switch r.kind {
	case unix.RTN_BLACKHOLE:
		return blackhole(r.prefix, table)
	case unix.RTN_THROW:
		return throw(r.prefix, table)
	}
	return viaTUN(r.prefix, table, r.device, r.source)
}

func none(netlink.Route) bool { return false }
