package host

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

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
	// Lost hears that somebody removed the TUN interface; nil for nobody.
	Lost func(error)
	// Log gets what happens in the background; nil for nowhere.
	Log *slog.Logger
}

// Client is the host's stack around a client's tunnel.
type Client struct {
	stand  *stand
	config ClientConfig // protected by the stand's lock
	up     bool         // so is this
}

// PrepareClient makes the host ready before the TUN interface exists: from
// here on packets to the prefixes leave through the tunnel or not at all, and
// what others remove is put back. It takes over what a killed process left. On
// an error what closes stays.
func PrepareClient(c ClientConfig) (*Client, error) {
	c, err := c.check()
	if err != nil {
		return nil, err
	}
	j, err := openJournal(c.StateFile, roleClient, c.Table)
	if errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w (or let `meshcrypt disconnect` remove it and what it speaks of)", err)
	}
	if err != nil {
		return nil, err
	}
	client := &Client{config: c, stand: newStand(c.TUN, j, c.Log)}
	if err := client.begin(); err != nil {
		client.stand.leave()
		return nil, fmt.Errorf("%w (packets to the tunnel's prefixes stay blocked "+
			"until `meshcrypt connect` succeeds or `meshcrypt disconnect` is run)", err)
	}
	return client, nil
}

func (c *Client) begin() error {
	c.stand.mu.Lock()
	defer c.stand.mu.Unlock()
	if err := c.stand.become(c.want()); err != nil {
		return err
	}
	return c.stand.keep(surroundings{faults: c.surroundings, lost: c.config.Lost})
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
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
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

// want is what the host is to be like now.
func (c *Client) want() want {
	w := want{
		tun: c.config.TUN, up: c.up, table: c.config.Table, mark: c.config.Mark,
		closed: c.config.Prefixes, through: c.config.Prefixes, except: c.config.Except,
		sources: c.config.Leases, addresses: c.config.Leases, families: families(),
		settings: []setting{ipv4Conf("all", "src_valid_mark", "1")},
	}
	if !HasIPv6() { // the TUN has none; other interfaces may
		w.through = slices.DeleteFunc(slices.Clone(w.through), func(p netip.Prefix) bool { return p.Addr().Is6() })
	}
	if !knowsIPv6() {
		six := func(p netip.Prefix) bool { return p.Addr().Is6() }
		w.closed, w.except = slices.DeleteFunc(slices.Clone(w.closed), six), slices.DeleteFunc(slices.Clone(w.except), six)
	}
	if c.up {
		w.settings = append(w.settings, ofTUN([]setting{ipv4Conf(c.config.TUN, "rp_filter", "2")})...)
	}
	w.fence = fenced(tableClientFence, w, c.config.Leases)
	w.filter = table{name: tableClient, owned: true, sets: w.fence.sets,
		chains: append(clientChains(c.config), w.fence.chains...)}
	return w
}

// Up lets packets through once the TUN interface is up.
func (c *Client) Up() error {
	return c.change(func() error {
		if _, err := device(c.config.TUN); err != nil {
			return err
		}
		c.up = true
		return nil
	})
}

// Update replaces prefixes and exceptions. A prefix that stays is never without
// a route.
func (c *Client) Update(prefixes, except []netip.Prefix) error {
	return c.change(func() error {
		config := c.config
		config.Prefixes, config.Except = prefixes, except
		config, err := config.check()
		if err == nil {
			c.config = config
		}
		return err
	})
}

// change makes the host follow a change of what is wanted.
func (c *Client) change(how func() error) error {
	c.stand.mu.Lock()
	defer c.stand.mu.Unlock()
	if c.stand.closed {
		return ErrClosed
	}
	if err := how(); err != nil {
		return err
	}
	return c.stand.become(c.want())
}

// Faults are what is not whole on this host just now and was not, or cannot be,
// put back, each with the next command. Safe for any goroutine.
func (c *Client) Faults() []string { return c.stand.watch.list() }

// PutBack counts what other software removed and was put back, by kind. Safe
// for any goroutine.
func (c *Client) PutBack() map[string]uint64 { return c.stand.watch.counts() }

// Leave ends the work on this host and leaves all as a killed process would:
// what was pushed stays blocked until a next PrepareClient or Restore. It is for
// an end that the user did not ask for.
func (c *Client) Leave() { c.stand.leave() }

// Close removes everything of ours, what closes too: this is a clean stop.
func (c *Client) Close() error { return c.stand.end(false) }

// surroundings are routes and rules of others that lead elsewhere what is to go
// into the tunnel.
func (c *Client) surroundings() (found []string) {
	c.stand.mu.Lock()
	config, up := c.config, c.up && !c.stand.closed
	c.stand.mu.Unlock()
	if !up {
		return nil
	}
	for _, p := range config.Prefixes[:min(len(config.Prefixes), maxAsked)] {
		to := within(p, 1)
		if slices.ContainsFunc(config.Except, func(e netip.Prefix) bool { return e.Contains(to) }) {
			continue
		}
		if out := leadsTo(to); out != "" && out != config.TUN && out != "lo" {
			found = append(found, fmt.Sprintf("packets to %v are led to %s by other software, not to %s, and dropped on the way: see `ip rule` and `ip route get %v`",
				p, out, config.TUN, to))
		}
	}
	return found
}

// within is the address that many places behind a prefix's first, or its last.
func within(p netip.Prefix, places int) netip.Addr {
	a := p.Addr()
	for range places {
		if next := a.Next(); p.Contains(next) {
			a = next
		}
	}
	return a
}

// leadsTo is the device by which this host's own packets to an address leave;
// empty: there is none, or it cannot be asked.
func leadsTo(to netip.Addr) string {
	e := ExitTo(to, 0)
	if !e.Leads() {
		return ""
	}
	link, err := netlink.LinkByIndex(e.Device)
	if err != nil {
		return ""
	}
	return link.Attrs().Name
}
