package host

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Closer is one of the two things that keep a host closed, each for itself.
type Closer string

const (
	// ByRoutes are blackhole routes that packets are led to, ByFence is the nft fence.
	ByRoutes Closer = "routes"
	ByFence  Closer = "fence"
)

// stands looks what keeps this host closed now, and to what: other software may
// have removed some of it, or all, while nobody lived to put it back.
func (c *Closed) stands(table int) error {
	routed, err := blackholed(table)
	if err != nil {
		return err
	}
	fenced, err := fencedOff()
	if errors.Is(err, unix.EPERM) {
		c.Unseen, err = true, nil
	}
	if err != nil {
		return err
	}
	all := rangesOfBoth(append(slices.Clone(routed), fenced...))
	for _, r := range all {
		c.Prefixes = append(c.Prefixes, r.prefixes()...)
	}
	if len(all) == 0 {
		return nil
	}
	if slices.Equal(rangesOfBoth(routed), all) {
		c.By = append(c.By, ByRoutes)
	}
	if slices.Equal(rangesOfBoth(fenced), all) {
		c.By = append(c.By, ByFence)
	}
	if len(c.By) == 0 {
		c.By = []Closer{ByRoutes, ByFence} // each a part
	}
	return nil
}

func rangesOfBoth(prefixes []netip.Prefix) []addressRange {
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Compare(b) })
	return append(rangesOf(prefixes, false), rangesOf(prefixes, true)...)
}

// blackholed are the prefixes of our blackhole routes that packets come to: our
// rule leads to them, and no other leads past them.
func blackholed(table int) (all []netip.Prefix, err error) {
	routes, err := ourRoutes(table)
	if err != nil {
		return nil, err
	}
	rules, err := ourRules(table)
	if err != nil {
		return nil, err
	}
	thrown := func(a netip.Addr) bool {
		return slices.ContainsFunc(routes, func(r netlink.Route) bool {
			p, ok := prefixOf(r)
			return ok && r.Type == unix.RTN_THROW && p.Contains(a)
		})
	}
	for _, r := range routes {
		p, ok := prefixOf(r)
		if !ok || !isBlackhole(r) || !slices.ContainsFunc(rules, func(r netlink.Rule) bool { return r.Family == family(p.Addr()) }) {
			continue
		}
		to := within(p, 1)
		if out := leadsTo(to); out == "" || out == "lo" || thrown(to) {
			all = append(all, p)
		}
	}
	return all, nil
}

// fencedOff are the prefixes that a client's fence drops packets to.
func fencedOff() (all []netip.Prefix, err error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableClientFence}
	rules, err := c.GetRules(t, &nftables.Chain{Name: chainFence, Table: t})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, six := range []bool{false, true} {
		s := set{name: setName(setClosed, six), six: six}
		if !slices.ContainsFunc(rules, func(r *nftables.Rule) bool { return dropsIn(r, s.name) }) {
			continue
		}
		elements, err := c.GetSetElements(&nftables.Set{Table: t, Name: s.name, KeyType: s.keyType()})
		if err != nil {
			return nil, err
		}
		for _, r := range s.rangesFrom(elements) {
			all = append(all, r.prefixes()...)
		}
	}
	return all, nil
}

// dropsIn says that a rule drops what is in a set.
func dropsIn(r *nftables.Rule, name string) bool {
	looks, drops := false, false
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Lookup:
			looks = looks || e.SetName == name
		case *expr.Verdict:
			drops = drops || e.Kind == expr.VerdictDrop
		}
	}
	return looks && drops
}

// rangesFrom reads what fill wrote: a beginning, and the first address behind the
// end, which is missing for a range that ends with the family.
func (s set) rangesFrom(elements []nftables.SetElement) (all []addressRange) {
	elements = slices.DeleteFunc(slices.Clone(elements), func(e nftables.SetElement) bool {
		// The kernel puts an end at the beginning of all addresses.
		return e.IntervalEnd && len(bytes.Trim(e.Key, "\x00")) == 0
	})
	slices.SortFunc(elements, func(a, b nftables.SetElement) int { return bytes.Compare(a.Key, b.Key) })
	for i, e := range elements {
		first, ok := netip.AddrFromSlice(e.Key)
		if !ok || e.IntervalEnd {
			continue
		}
		last := lastOf(netip.PrefixFrom(first, 0))
		if i+1 < len(elements) {
			if after, ok := netip.AddrFromSlice(elements[i+1].Key); ok {
				last = after.Prev()
			}
		}
		all = append(all, addressRange{first, last})
	}
	return all
}

// prefixes are the fewest that make up a range.
func (r addressRange) prefixes() (all []netip.Prefix) {
	for first := r.first; first.IsValid() && !r.last.Less(first); {
		p := netip.PrefixFrom(first, first.BitLen())
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(first, p.Bits()-1)
			if wider.Masked().Addr() != first || r.last.Less(lastOf(wider)) {
				break
			}
			p = wider
		}
		all = append(all, p)
		first = lastOf(p).Next()
	}
	return all
}
