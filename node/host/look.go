package host

import (
	"errors"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// look sees what the host is like now, as far as w speaks of it.
func (s *stand) look(w want) (now seen, err error) {
	now = seen{rules: map[int]bool{}, routes: map[route]bool{}}
	link, err := device(w.tun)
	if err != nil && !errors.Is(err, ErrNoDevice) {
		return now, err
	}
	if err == nil {
		now.device, now.running = link.Attrs().Index, link.Attrs().Flags&net.FlagUp != 0
		if now.addresses, err = addressesOf(link); err != nil {
			return now, err
		}
	}
	routes, err := ourRoutes(w.table)
	if err != nil {
		return now, err
	}
	for _, r := range routes {
		if own, ok := parseRoute(r); ok {
			now.routes[own] = true
		}
	}
	if w.mark != 0 {
		if err := now.lookRules(w); err != nil {
			return now, err
		}
	}
	now.sysctls = lookSysctls(w.settings)
	now.fence, now.filter = s.fence.whole(w.fence), s.filter.whole(w.filter)
	return now, nil
}

func (now *seen) lookRules(w want) error {
	rules, err := ourRules(w.table)
	if err != nil {
		return err
	}
	for _, family := range w.families {
		now.rules[family] = hasRule(rules, tableRule(family, w.table, w.mark))
	}
	return nil
}

func lookSysctls(settings []setting) map[string]string {
	values := make(map[string]string, len(settings))
	for _, one := range settings {
		if value, err := readSysctl(one.name); err == nil {
			values[one.name] = value
		}
	}
	return values
}

func addressesOf(link netlink.Link) (map[netip.Addr]bool, error) {
	list, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return nil, failed(err, "see `ip address`", "list the addresses of %s", link.Attrs().Name)
	}
	all := make(map[netip.Addr]bool, len(list))
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			all[addr.Unmap()] = true
		}
	}
	return all, nil
}

// parseRoute is a route of ours as want knows it.
func parseRoute(r netlink.Route) (own route, ok bool) {
	own.kind = r.Type
	if own.prefix, ok = prefixOf(r); !ok {
		return own, false
	}
	switch r.Type {
	case unix.RTN_BLACKHOLE:
		return own, uint32(r.Priority) == metricBlackhole
	case unix.RTN_THROW:
		return own, true
	}
	own.device = r.LinkIndex
	if source, ok := netip.AddrFromSlice(r.Src); ok {
		own.source = source.Unmap()
	}
	return own, r.Type == unix.RTN_UNICAST && r.Priority == metricTUN
}
