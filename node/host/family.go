package host

import "net/netip"

// HasIPv6 reports whether this host lets its interfaces have IPv6 addresses.
func HasIPv6() bool {
	off, err := readSysctl("ipv6/conf/default/disable_ipv6")
	return err == nil && off == "0"
}

// Unspecified is the address to listen on for every family this host has.
func Unspecified() netip.Addr {
	if HasIPv6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}
