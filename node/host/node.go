package host

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// NodeConfig is what a node's host is to be.
type NodeConfig struct {
	// TUN is the interface that Up expects.
	TUN string
	// Pool are the prefixes that leases come from.
	Pool []netip.Prefix
	// InsideInterface leads to the company's network.
	InsideInterface string
	// Inside is this host's own address there; zero is none.
	Inside netip.Addr
	// Port is the UDP port of the outer packets.
	Port uint16
	// InsidePort is the UDP port of packets between nodes; 0 is none.
	InsidePort uint16
	// Masquerade hides leases behind the addresses given to Hide, and behind
	// this host's own inside address without one.
	Masquerade bool
	// PathTest are the addresses of the pool that are never hidden: tests of
	// whether this host forwards come from them.
	PathTest []netip.Addr
	// StateFile keeps the host's original settings while they are changed.
	StateFile string
	// Log gets what happens in the background; nil for nowhere.
	Log *slog.Logger
}

// Node is the host's stack around a node's data plane.
type Node struct {
	config   NodeConfig
	journal  *journal
	warnings []string
	faults   atomic.Pointer[[]string] // see Faults

	mu     sync.Mutex // protects the fields below
	held   map[netip.Addr]*announcement
	hidden map[netip.Prefix]netip.Addr
	closed bool
}

// PrepareNode makes the host ready before the TUN interface exists: blackhole
// routes for the pool, the filter, the inside interface's settings. It takes
// over what a killed process left. On an error the blackholes stay.
func PrepareNode(c NodeConfig) (*Node, error) {
	c, err := c.check()
	if err != nil {
		return nil, err
	}
	j, err := openJournal(c.StateFile, roleNode, unix.RT_TABLE_MAIN)
	if err != nil {
		return nil, err
	}
	n := &Node{config: c, journal: j, held: map[netip.Addr]*announcement{}, hidden: map[netip.Prefix]netip.Addr{}}
	if err := n.prepare(); err != nil {
		return nil, errors.Join(err, n.Close(true))
	}
	return n, nil
}

func (c NodeConfig) check() (NodeConfig, error) {
	if err := errors.Join(checkName("TUN interface", c.TUN),
		checkName("inside interface", c.InsideInterface)); err != nil {
		return c, err
	}
	pool, err := normalize("pool", MaxPool, c.Pool)
	if err != nil {
		return c, err
	}
	if len(pool) == 0 || pool[0].Bits() == 0 || c.Port == 0 || c.StateFile == "" {
		return c, fmt.Errorf("%w: a node needs a pool other than everything, a port and a state file", ErrConfig)
	}
	if hasIPv6(pool) && !HasIPv6() {
		return c, fmt.Errorf("%w: the pool has IPv6, which is switched off here: run "+
			"`sysctl -w net.ipv6.conf.default.disable_ipv6=0`, or found the mesh with a pool of IPv4", ErrConfig)
	}
	if _, err := device(c.InsideInterface); err != nil {
		return c, err
	}
	c.Pool = pool
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func (n *Node) prepare() error {
	c := n.config
	for _, p := range c.Pool {
		if err := addRoute(blackhole(p, unix.RT_TABLE_MAIN)); err != nil {
			return err
		}
	}
	err := sweepRoutes(unix.RT_TABLE_MAIN, func(r netlink.Route) bool { return among(r, c.Pool) })
	if err != nil {
		return err
	}
	if err := install(tableNode, nodeChains(c)); err != nil {
		return err
	}
	settings := append([]setting{ipv4Conf("all", "send_redirects", "0")}, ipv4Router(c.InsideInterface)...)
	if c.Masquerade {
		// All changes are told, also of flows that began before somebody listened.
		settings = append(settings, setting{name: "netfilter/nf_conntrack_events", value: "1"})
	}
	if hasIPv6(c.Pool) {
		interfaces, err := ipv6Interfaces()
		if err != nil {
			return err
		}
		settings = append(settings, ipv6Router([]string{c.InsideInterface}, hasForceForwarding(), interfaces)...)
	}
	if err := n.journal.change(settings); err != nil {
		return err
	}
	n.warnings, err = n.findWarnings()
	return err
}

func hasIPv6(prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if p.Addr().Is6() {
			return true
		}
	}
	return false
}

func (n *Node) findWarnings() (warnings []string, err error) {
	c := n.config
	found, err := overlaps(c.Pool, c.TUN)
	if err != nil {
		return nil, err
	}
	for _, o := range found {
		warnings = append(warnings, fmt.Sprintf("the pool %v overlaps the network %v of %s; "+
			"choose another pool", o.Prefix, o.Local, o.Device))
	}
	for _, dev := range []string{"all", c.InsideInterface} {
		name := "ipv4/conf/" + dev + "/arp_ignore"
		if value, err := readSysctl(name); err == nil && value != "0" {
			warnings = append(warnings, fmt.Sprintf("net/%s is %s, so this host does not answer for "+
				"an inside address on %s; run `sysctl -w net/%s=0`", name, value, c.TUN, name))
		}
	}
	return warnings, nil
}

// Warnings are what on this host stands against working well, in words.
func (n *Node) Warnings() []string { return n.warnings }

// Faults are what is not whole on this host just now and was not, or cannot be,
// put back, each with the next command. Safe for any goroutine.
func (n *Node) Faults() []string { return listed(&n.faults) }

// Up lets packets through once the TUN interface is up.
func (n *Node) Up() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	link, err := device(n.config.TUN)
	if err != nil {
		return err
	}
	settings := ipv4Router(n.config.TUN)
	if hasIPv6(n.config.Pool) {
		key := "forwarding"
		if hasForceForwarding() {
			key = "force_forwarding"
		}
		settings = append(settings, ipv6Conf(n.config.TUN, key, "1"))
	}
	if err := writeAll(settings); err != nil {
		return err
	}
	if anchor, err := n.anchor(); err != nil {
		return err
	} else if anchor.IsValid() {
		if err := addAddress(link, anchor); err != nil {
			return err
		}
	}
	for _, p := range n.config.Pool {
		// This host's own answers come from its inside address, not from a
		// moving one that stands on the TUN.
		route := viaTUN(p, unix.RT_TABLE_MAIN, link.Attrs().Index, sourceFor(p, n.config.Inside))
		if err := addRoute(route); err != nil {
			return err
		}
	}
	return nil
}

// anchor is an IPv4 address of this host that the TUN gets too: the kernel drops
// all IPv4 routes of an interface that loses its last address, the pool's among
// them, when a moving address leaves. In IPv6 they stay.
func (n *Node) anchor() (netip.Addr, error) {
	if n.config.Inside.Is4() {
		return n.config.Inside, nil
	}
	inside, err := device(n.config.InsideInterface)
	if err != nil {
		return netip.Addr{}, err
	}
	addrs, err := netlink.AddrList(inside, netlink.FAMILY_V4)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, err // nothing of IPv4 can go there
	}
	a, _ := netip.AddrFromSlice(addrs[0].IP)
	return a.Unmap(), nil
}

// HoldAddress makes this host answer for an inside address and tells the
// neighbours. Holding an address again tells them again.
func (n *Node) HoldAddress(a netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	if _, again := n.held[a]; !again && len(n.held) >= MaxHeld {
		return fmt.Errorf("%w: this host holds %d inside addresses already", ErrConfig, MaxHeld)
	}
	link, err := device(n.config.TUN)
	if err != nil {
		return err
	}
	if err := addAddress(link, a); err != nil {
		return err
	}
	if old := n.held[a]; old != nil {
		old.stop()
		delete(n.held, a)
	}
	told, err := announce(n.config.InsideInterface, a, n.config.Log)
	if err != nil {
		return errors.Join(err, deleteAddress(link, a))
	}
	n.held[a] = told
	return nil
}

// ReleaseAddress undoes HoldAddress; an address not held is no error.
func (n *Node) ReleaseAddress(a netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return ErrClosed
	}
	return n.release(a)
}

func (n *Node) release(a netip.Addr) error {
	if held := n.held[a]; held != nil {
		held.stop()
		delete(n.held, a)
	}
	link, err := device(n.config.TUN)
	if errors.Is(err, ErrNoDevice) {
		return nil // the address went with it
	}
	if err != nil {
		return err
	}
	return deleteAddress(link, a)
}

// Hide hides the leases of one part of the pool behind a moving address
// wherever this host forwards them to the inside network.
func (n *Node) Hide(part netip.Prefix, behind netip.Addr) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.closed:
		return ErrClosed
	case !n.config.Masquerade || n.hidden[part] == behind:
		return nil
	case len(n.hidden) >= MaxHidden:
		return fmt.Errorf("%w: this host hides %d parts already", ErrConfig, MaxHidden)
	}
	hidden := maps.Clone(n.hidden)
	hidden[part] = behind
	if err := refill(tableNode, masqueraded(n.config, hidden)); err != nil {
		return err
	}
	n.hidden = hidden
	return nil
}

// Close puts the host back. With keepBlackhole packets to the pool are still
// dropped afterwards, as for a restart; without, nothing of ours remains.
func (n *Node) Close(keepBlackhole bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	var errs []error
	for a := range n.held {
		errs = append(errs, n.release(a))
	}
	if keepBlackhole {
		// The state file stays with them, for the Restore that removes them.
		errs = append(errs, removeNode(isBlackhole), n.journal.restore())
		return errors.Join(errs...)
	}
	return n.journal.end(errors.Join(append(errs, removeNode(none))...))
}

// removeNode removes routes and filter. Routes go first: without the filter
// nothing may be forwarded.
func removeNode(keep func(netlink.Route) bool) error {
	return errors.Join(sweepRoutes(unix.RT_TABLE_MAIN, keep), uninstall(tableNode))
}
