package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Defaults of a client, for callers without an opinion.
const (
	// DefaultTable is a client's routing table, DefaultMark the mark of its
	// own outer packets, DefaultPriority the place of its rule: before the
	// main table.
	DefaultTable    = 6484
	DefaultMark     = 0x6d63
	DefaultPriority = 16484
)

// ClientConfig is what a client's host is to be.
type ClientConfig struct {
	// TUN is the interface that Up expects.
	TUN string
	// Leases are the client's addresses in the tunnel.
	Leases []netip.Addr
	// Prefixes lead into the tunnel.
	Prefixes []netip.Prefix
	// Except are parts of them that keep the way they have without the tunnel.
	Except []netip.Prefix
	// Mark is on every outer packet of the client's own, UDP and TCP, which
	// therefore does not follow the routes into the tunnel.
	Mark int
	// Table is a routing table for the client alone.
	Table int
	// StateFile keeps the host's original settings while they are changed.
	StateFile string
}

// Client is the host's stack around a client's tunnel.
type Client struct {
	journal *journal

	faults atomic.Pointer[[]string] // see Faults

	mu     sync.Mutex // protects the fields below
	config ClientConfig
	up     bool
	closed bool
}

// PrepareClient makes the host ready before the TUN interface exists: from
// here on packets to the prefixes leave through the tunnel or not at all. It
// takes over what a killed process left. On an error the blackholes stay.
func PrepareClient(c ClientConfig) (*Client, error) {
	c, err := c.check()
	if err != nil {
		return nil, err
	}
	j, err := openJournal(c.StateFile, roleClient, c.Table)
	if err != nil {
		return nil, err
	}
	client := &Client{config: c, journal: j}
	if err := client.prepare(); err != nil {
		return nil, fmt.Errorf("%w (packets to the tunnel's prefixes stay blocked "+
			"until `meshcrypt connect` succeeds or `meshcrypt disconnect` is run)", err)
	}
	return client, nil
}

func (c ClientConfig) check() (ClientConfig, error) {
	if err := checkName("TUN interface", c.TUN); err != nil {
		return c, err
	}
	prefixes, err := normalize("pushed prefixes", MaxPrefixes, c.Prefixes)
	if err != nil {
		return c, err
	}
	c.Prefixes = prefixes
	if c.Except, err = normalize("exceptions", MaxPrefixes, c.Except); err != nil {
		return c, err
	}
	c.Leases = slices.Clone(c.Leases)
	if !HasIPv6() {
		c.Leases = slices.DeleteFunc(c.Leases, netip.Addr.Is6) // the TUN cannot have them
	}
	for i, a := range c.Leases {
		if !a.IsValid() {
			return c, fmt.Errorf("%w: lease %d has no address", ErrConfig, i)
		}
		c.Leases[i] = a.Unmap()
	}
	switch {
	case len(c.Leases) > MaxLeases:
		return c, fmt.Errorf("%w: %d leases, at most %d", ErrConfig, len(c.Leases), MaxLeases)
	case c.Mark == 0 || int64(c.Mark) != int64(uint32(c.Mark)):
		return c, fmt.Errorf("%w: mark %d, it must have 1 to 32 bits", ErrConfig, c.Mark)
	case c.Table <= 0 || c.Table >= unix.RT_TABLE_COMPAT && c.Table <= unix.RT_TABLE_LOCAL:
		return c, fmt.Errorf("%w: table %d is not a client's own", ErrConfig, c.Table)
	case c.StateFile == "":
		return c, fmt.Errorf("%w: a client needs a state file", ErrConfig)
	}
	return c, nil
}

func (c *Client) prepare() error {
	if err := c.setBlackholes(); err != nil {
		return err
	}
	// What leads elsewhere by our protocol number was left by a killed process.
	if err := sweepRoutes(c.config.Table, c.config.leads); err != nil {
		return err
	}
	if err := setRules(c.config.Table, c.config.Mark); err != nil {
		return err
	}
	if err := install(tableClient, clientChains(c.config)); err != nil {
		return err
	}
	return c.journal.change([]setting{ipv4Conf("all", "src_valid_mark", "1")})
}

// setBlackholes is for both families, also where IPv6 is switched off for the TUN:
// other interfaces of the host may have it. A kernel without IPv6 sends none.
func (c *Client) setBlackholes() error {
	for _, p := range c.config.Except {
		if err := addRoute(throw(p, c.config.Table)); err != nil {
			return err
		}
	}
	for _, p := range c.config.Prefixes {
		err := addRoute(blackhole(p, c.config.Table))
		if p.Addr().Is6() && (errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Up lets packets through once the TUN interface is up.
func (c *Client) Up() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	link, err := device(c.config.TUN)
	if err != nil {
		return err
	}
	for _, a := range c.config.Leases {
		if err := addAddress(link, a); err != nil {
			return err
		}
	}
	if err := writeAll([]setting{ipv4Conf(c.config.TUN, "rp_filter", "2")}); err != nil {
		return err
	}
	c.up = true
	return c.setRoutes(link.Attrs().Index)
}

func (c *Client) setRoutes(index int) error {
	six := HasIPv6()
	for _, p := range c.config.Prefixes {
		if p.Addr().Is6() && !six {
			continue
		}
		route := viaTUN(p, c.config.Table, index, sourceFor(p, c.config.Leases...))
		if err := addRoute(route); err != nil {
			return err
		}
	}
	return nil
}

// Update replaces prefixes and exceptions. A prefix that stays is never without
// a route.
func (c *Client) Update(prefixes, except []netip.Prefix) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return ErrClosed
	}
	config := c.config
	config.Prefixes, config.Except = prefixes, except
	config, err := config.check()
	if err != nil {
		return err
	}
	c.config = config
	if err := c.setBlackholes(); err != nil {
		return err
	}
	if c.up {
		link, err := device(config.TUN)
		if err != nil {
			return err
		}
		if err := c.setRoutes(link.Attrs().Index); err != nil {
			return err
		}
	}
	return sweepRoutes(config.Table, config.leads)
}

// Overlaps are the prefixes that also belong to a network this host is
// attached to now, which the tunnel hides.
func (c *Client) Overlaps() ([]Overlap, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return overlaps(c.config.Prefixes, c.config.TUN)
}

// leads tells whether a route of ours belongs to this configuration.
func (c ClientConfig) leads(r netlink.Route) bool {
	if r.Type == unix.RTN_THROW {
		return among(r, c.Except)
	}
	return among(r, c.Prefixes)
}

// Faults are what is not whole on this host just now and was not, or cannot be,
// put back, each with the next command. Safe for any goroutine.
func (c *Client) Faults() []string { return listed(&c.faults) }

// Leave ends the work on this host and leaves all as a killed process would:
// what was pushed stays blocked until a next PrepareClient or Restore. It is for
// an end that the user did not ask for.
func (c *Client) Leave() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

// Close removes everything of ours, the blackholes too: this is a clean stop.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	errs := []error{removeClient(c.config.Table)}
	if link, err := device(c.config.TUN); err == nil {
		for _, a := range c.config.Leases {
			errs = append(errs, deleteAddress(link, a))
		}
	}
	return c.journal.end(errors.Join(errs...))
}

// removeClient removes rules, routes and filter of a client.
func removeClient(table int) error {
	return errors.Join(sweepRules(table), sweepRoutes(table, none), uninstall(tableClient))
}
