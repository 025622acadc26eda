package host

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

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
	// Rival hears that another host on the inside network answers for an address that
	// this one holds; it is called from the background and must not wait. nil for nobody.
	Rival func(netip.Addr)
	// Lost hears that somebody removed the TUN interface; nil for nobody.
	Lost func(error)
	// Log gets what happens in the background; nil for nowhere.
	Log *slog.Logger
}

// Node is the host's stack around a node's data plane.
type Node struct {
	config   NodeConfig
	stand    *stand
	warnings []string
	local    []netip.Prefix // networks of this host that the pool overlaps by mistake
	routing  []setting      // of the inside interface and, before Linux 6.17, of all

	listening sync.WaitGroup

	// Protected by the stand's lock.
	up     bool
	anchor netip.Addr
	held   map[netip.Addr]*announcement
	rivals *arpListener // from the first held address of IPv4 on
	hidden map[netip.Prefix]netip.Addr
}

// PrepareNode makes the host ready before the TUN interface exists: blackhole
// routes for the pool, the filter, the inside interface's settings; what others
// remove is put back. It takes over what a killed process left. On an error what
// closes stays.
func PrepareNode(c NodeConfig) (*Node, error) {
	c, err := c.check()
	if err != nil {
		return nil, err
	}
	j, err := openJournal(c.StateFile, roleNode, unix.RT_TABLE_MAIN)
	if err != nil {
		return nil, err
	}
	n := &Node{config: c, stand: newStand(c.TUN, j, c.Log), held: map[netip.Addr]*announcement{}, hidden: map[netip.Prefix]netip.Addr{}}
	if err := n.begin(); err != nil {
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

func (n *Node) begin() (err error) {
	if n.warnings, err = n.findWarnings(); err != nil {
		return err
	}
	if n.routing, err = routing(n.config); err != nil {
		return err
	}
	n.stand.mu.Lock()
	defer n.stand.mu.Unlock()
	if err := n.stand.become(n.want()); err != nil {
		return err
	}
	return n.stand.keep(surroundings{faults: n.surroundings, lost: n.config.Lost})
}

// routing lets the inside interface take part in forwarding.
func routing(c NodeConfig) ([]setting, error) {
	settings := append([]setting{ipv4Conf("all", "send_redirects", "0")}, ipv4Router(c.InsideInterface)...)
	if c.Masquerade {
		// All changes are told, also of flows that began before somebody listened.
		settings = append(settings, setting{name: "netfilter/nf_conntrack_events", value: "1"})
	}
	if !hasIPv6(c.Pool) {
		return settings, nil
	}
	interfaces, err := ipv6Interfaces()
	return append(settings, ipv6Router([]string{c.InsideInterface}, hasForceForwarding(), interfaces)...), err
}

// want is what the host is to be like now.
func (n *Node) want() want {
	c := n.config
	w := want{
		tun: c.TUN, up: n.up, table: unix.RT_TABLE_MAIN, closed: c.Pool, through: c.Pool,
		// This host's own answers come from its inside address, not from a
		// moving one that stands on the TUN.
		sources: []netip.Addr{c.Inside}, settings: n.routing,
		filter: table{name: tableNode, owned: true, chains: nodeChains(c, n.hidden)},
	}
	fence := w
	fence.except = n.local
	w.fence = fenced(tableNodeFence, fence, nil)
	if !n.up {
		return w
	}
	w.settings = append(slices.Clone(n.routing), ofTUN(n.tunRouting())...)
	if n.anchor.IsValid() {
		w.addresses = append(w.addresses, n.anchor)
	}
	for a := range n.held {
		if a != n.anchor {
			w.addresses = append(w.addresses, a)
		}
	}
	return w
}

// tunRouting lets the TUN take part in forwarding.
func (n *Node) tunRouting() []setting {
	settings := ipv4Router(n.config.TUN)
	if !hasIPv6(n.config.Pool) {
		return settings
	}
	key := "forwarding"
	if hasForceForwarding() {
		key = "force_forwarding"
	}
	return append(settings, ipv6Conf(n.config.TUN, key, "1"))
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
		n.local = append(n.local, o.Local)
		warnings = append(warnings, fmt.Sprintf("the pool %v overlaps the network %v of %s; "+
			"choose another pool", o.Prefix, o.Local, o.Device))
	}
	if n.local, err = normalize("overlaps", len(n.local), n.local); err != nil {
		return nil, err
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
func (n *Node) Faults() []string { return n.stand.watch.list() }

// PutBack counts what other software removed and was put back, by kind. Safe
// for any goroutine.
func (n *Node) PutBack() map[string]uint64 { return n.stand.watch.counts() }

// Up lets packets through once the TUN interface is up.
func (n *Node) Up() error {
	return n.change(func() (err error) {
		if _, err := device(n.config.TUN); err != nil {
			return err
		}
		if n.anchor, err = n.findAnchor(); err != nil {
			return err
		}
		n.up = true
		return n.stand.become(n.want())
	})
}

// change does something to the host under its lock.
func (n *Node) change(how func() error) error {
	n.stand.mu.Lock()
	defer n.stand.mu.Unlock()
	if n.stand.closed {
		return ErrClosed
	}
	return how()
}

// findAnchor gives an IPv4 address of this host that the TUN gets too: the kernel drops
// all IPv4 routes of an interface that loses its last address, the pool's among
// them, when a moving address leaves. In IPv6 they stay.
func (n *Node) findAnchor() (netip.Addr, error) {
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
	return n.change(func() error { return n.hold(a) })
}

func (n *Node) hold(a netip.Addr) error {
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
	n.watchRivals(a)
	told, err := announce(n.config.InsideInterface, a, n.config.Rival, n.config.Log)
	if err != nil {
		n.stand.want = n.want()
		return errors.Join(err, deleteAddress(link, a))
	}
	n.held[a] = told
	// Only the address is new; to look at the whole would cost an egress time.
	n.stand.want = n.want()
	return nil
}

// ReleaseAddress undoes HoldAddress; an address not held is no error.
func (n *Node) ReleaseAddress(a netip.Addr) error {
	return n.change(func() error { return n.release(a) })
}

func (n *Node) release(a netip.Addr) error {
	if held := n.held[a]; held != nil {
		held.stop()
		delete(n.held, a)
	}
	n.stand.want = n.want()
	if a == n.anchor {
		return nil
	}
	return n.stand.dropAddress(a)
}

// Hide hides the leases of one part of the pool behind a moving address
// wherever this host forwards them to the inside network.
func (n *Node) Hide(part netip.Prefix, behind netip.Addr) error {
	return n.change(func() error {
		switch {
		case !n.config.Masquerade || n.hidden[part] == behind:
			return nil
		case len(n.hidden) >= MaxHidden:
			return fmt.Errorf("%w: this host hides %d parts already", ErrConfig, MaxHidden)
		}
		hidden := maps.Clone(n.hidden)
		hidden[part] = behind
		before := n.hidden
		n.hidden = hidden
		w := n.want()
		if err := n.stand.filter.put(w.filter); err != nil {
			n.hidden = before
			return err
		}
		n.stand.want = w
		return nil
	})
}

// Rest ends the watch: what goes from now on, the TUN first, goes by this process's own
// doing.
func (n *Node) Rest() { n.stand.watch.end() }

// Close puts the host back. With keepClosed packets to the pool are still
// dropped afterwards, as for a restart; without, nothing of ours remains.
func (n *Node) Close(keepClosed bool) error {
	n.stand.mu.Lock()
	for a, held := range n.held {
		held.stop()
		delete(n.held, a)
	}
	if n.rivals != nil {
		n.rivals.close()
		n.rivals = nil
	}
	n.stand.mu.Unlock()
	n.listening.Wait()
	return n.stand.end(keepClosed)
}
