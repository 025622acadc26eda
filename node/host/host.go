// Package host is what meshcrypt changes in the network stack of the machine
// it runs on: routes, addresses on the TUN interface, the rule and table of a
// client, the packet filter table of its own, and a few sysctls. It owns all
// routes and rules with its protocol number and the nft tables meshcrypt and
// meshcrypt_client; every sysctl it changes is written down first and put back.
//
// It fails closed: blackhole routes stand before the TUN interface comes up
// and outlive a killed process, so that no packet meant for the tunnel follows
// the default route. Everything is idempotent; a later start takes over what a
// killed process left, and Restore removes it.
//
// It does not open the TUN device (node/tun) nor decide who may send what:
// its filter only bounds what a mistake elsewhere could forward.
package host

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol marks our routes and rules; see it by `ip route show proto 109`.
const Protocol = 0x6d

// Metrics of our routes. The blackhole has the worst there is, so that any
// route to the same prefix wins over it.
const (
	metricTUN       = 50
	metricBlackhole = 1<<32 - 1
)

var (
	// ErrConfig is returned for a configuration no host can serve.
	ErrConfig = errors.New("host: invalid configuration")
	// ErrNoDevice is returned for a network device that is not there.
	ErrNoDevice = errors.New("host: no such network device")
	// ErrDamaged is returned for a state file that cannot be read.
	ErrDamaged = fmt.Errorf("%w: damaged state file", ErrConfig)
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("host: closed")
)

// failed wraps err with what was tried and what to do about it.
func failed(err error, next, what string, args ...any) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		next = "run as root, or give the binary CAP_NET_ADMIN"
	}
	return fmt.Errorf("host: %s: %w; %s", fmt.Sprintf(what, args...), err, next)
}

// device finds a network device by name.
func device(name string) (netlink.Link, error) {
	link, err := netlink.LinkByName(name)
	if err == nil {
		return link, nil
	}
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil, fmt.Errorf("%w: %q; see `ip link`", ErrNoDevice, name)
	}
	return nil, failed(err, "see `ip link`", "look up device %q", name)
}

// checkName refuses what cannot be an interface name, as it becomes part of
// file names and filter rules.
func checkName(what, name string) error {
	if name == "" || len(name) > maxNameLen || name == "." || name == ".." {
		return fmt.Errorf("%w: %s %q is no interface name", ErrConfig, what, name)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c == '/' || c >= 0x7f {
			return fmt.Errorf("%w: %s %q is no interface name", ErrConfig, what, name)
		}
	}
	return nil
}
