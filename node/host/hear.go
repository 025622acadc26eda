package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// hear listens to the kernel's messages about links, addresses, routes, rules
// and nft tables, and pokes the watch by those that concern us.
func (s *stand) hear() (closeAll func(), err error) {
	network, err := openMessages(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE)
	if err != nil {
		return nil, err
	}
	filter, err := openMessages(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return nil, errors.Join(err, network.Close())
	}
	s.watch.group.Go(func() { s.listen(network, s.aboutNetwork) })
	s.watch.group.Go(func() { s.listen(filter, aboutFilter) })
	return func() {
		_ = network.Close() // nothing was written to them
		_ = filter.Close()
	}, nil
}

// listen reads until the socket is closed. What was lost for want of room may
// have been about us.
func (s *stand) listen(file *os.File, concerns func(syscall.NetlinkMessage) bool) {
	b := make([]byte, maxMessages)
	for faults := 0; faults < maxFaults; faults++ {
		n, err := file.Read(b)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		messages, unparsed := syscall.ParseNetlinkMessage(b[:max(n, 0)])
		if err != nil || unparsed != nil || slices.ContainsFunc(messages, concerns) {
			s.watch.poke()
		}
		if err == nil || errors.Is(err, unix.ENOBUFS) {
			faults = -1
		}
	}
}

// aboutNetwork judges a message of rtnetlink. Of routes there may be very many,
// so only those of our table and to our destinations count.
func (s *stand) aboutNetwork(m syscall.NetlinkMessage) bool {
	if m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE {
		return true // links, addresses and rules are few
	}
	if len(m.Data) < unix.SizeofRtMsg {
		return false
	}
	if m.Data[5] == Protocol {
		return true
	}
	s.mu.Lock()
	w := s.want
	s.mu.Unlock()
	to, ok := destination(m)
	for _, p := range w.closed {
		if ok && p == to {
			return true
		}
	}
	return false
}

// destination is where the route of a message leads.
func destination(m syscall.NetlinkMessage) (netip.Prefix, bool) {
	attributes, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return netip.Prefix{}, false
	}
	to := netip.IPv4Unspecified()
	if m.Data[0] == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	for _, a := range attributes {
		if a.Attr.Type != unix.RTA_DST {
			continue
		}
		addr, ok := netip.AddrFromSlice(a.Value)
		if !ok {
			return netip.Prefix{}, false
		}
		to = addr
	}
	return netip.PrefixFrom(to, int(m.Data[1])), true
}

// aboutFilter judges a message of nftables. Every change of foreign tables may put
// something into the way; it ends with a new generation.
func aboutFilter(m syscall.NetlinkMessage) bool {
	return m.Header.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN
}

// openMessages opens a socket that hears groups of one netlink family.
func openMessages(family int, groups ...uint32) (*os.File, error) {
	fail := func(err error) (*os.File, error) { return nil, fmt.Errorf("host: watch the network: %w", err) }
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, family)
	if err != nil {
		return fail(err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, group := range groups {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, int(group)))
	}
	if err != nil {
		unix.Close(fd)
		return fail(err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}
