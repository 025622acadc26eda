package client

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/pages"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// table is one default route over the newest usable epoch of each slice; a
// spare carries traffic only when nothing else can, or is heard through a new gateway
// yet: what died with the old one may have been a gateway and an agent at once.
func (c *Client) table() *dataplane.Table {
	in, routes := make(map[uint32]*dataplane.Pair), make(map[netip.Addr]*dataplane.Route)
	route := &dataplane.Route{
		Set: &slicing.Set{Mode: c.spreading, Gap: c.flow.Gap()}, Spread: c.spread, SprayUDP: c.session != nil && c.session.welcome.SprayUDP,
	}
	trials, unknown := !c.any((*slice).proven), !c.any((*slice).known)
	spares := !c.any((*slice).usable) || trials && c.spareAnswers()
	for _, key := range c.sortedKeys() {
		s := c.slices[key]
		for _, p := range s.pairs() {
			in[p.In.SPI()] = p
		}
		if s.held() && s.inside.IsValid() && !c.superseded(key) && (s.usable() || routes[s.inside] == nil) {
			routes[s.inside] = finalMile(s)
		}
		if !s.usable() || s.spare != spares || s.pulse.trial && !trials ||
			!s.pulse.meter.Measured() && !unknown || c.superseded(key) {
			continue
		}
		route.Put(key.number, dataplane.RouteSlice{Pair: s.pair, SPI: s.grant.SPI}, max(1, s.weight))
	}
	return &dataplane.Table{In: pages.Numbered(in), Routes: pages.At(routes), Default: route}
}

// finalMile is the way to an agent's own host: over its slice, and in clear nowhere, so
// a slice that is silent keeps it. Its packets wait until it is heard again, or until
// the arbiter takes the slice away.
func finalMile(s *slice) *dataplane.Route {
	route := &dataplane.Route{Set: &slicing.Set{Mode: slicing.Pin}, Spread: s.last}
	route.Put(0, dataplane.RouteSlice{Pair: s.pair, SPI: s.grant.SPI}, 1)
	return route
}

// weigh gives slices the weights that the arbiter says.
func (c *Client) weigh(weights []registry.SliceWeight) {
	for _, w := range weights {
		s := c.slices[sliceKey{w.Number, w.Epoch}]
		if s != nil && s.weight != w.Weight {
			s.weight, c.dirty = w.Weight, true
			c.config.Log.Debug("slice weighs", "slice", w.Number, "weight", w.Weight)
		}
	}
}

// sortedKeys are oldest epochs first.
func (c *Client) sortedKeys() []sliceKey {
	return slices.SortedFunc(maps.Keys(c.slices), func(x, y sliceKey) int {
		return cmp.Or(cmp.Compare(x.number, y.number), cmp.Compare(x.epoch, y.epoch))
	})
}

// inOrder is every slice, by number: what is said of several is the same whenever the same
// happens.
func (c *Client) inOrder() (all []*slice) {
	for _, key := range c.sortedKeys() {
		all = append(all, c.slices[key])
	}
	return all
}

// any reports whether a slice other than a spare is such.
func (c *Client) any(such func(*slice) bool) bool {
	for _, s := range c.slices {
		if !s.spare && such(s) {
			return true
		}
	}
	return false
}

// spareAnswers reports whether a spare was heard through the gateway in use.
func (c *Client) spareAnswers() bool {
	for _, s := range c.slices {
		if s.spare && s.proven() {
			return true
		}
	}
	return false
}

// grantedAnew reports whether there is a newer epoch of the slice, keyed or not.
func (c *Client) grantedAnew(key sliceKey) bool {
	for other := range c.slices {
		if other.number == key.number && other.epoch > key.epoch {
			return true
		}
	}
	return false
}

// superseded reports whether a newer epoch of the slice is usable.
func (c *Client) superseded(key sliceKey) bool {
	for other, s := range c.slices {
		if other.number == key.number && other.epoch > key.epoch && s.usable() {
			return true
		}
	}
	return false
}

// superviseMode lets mode auto change between one slice per flow and spraying.
func (c *Client) superviseMode(now time.Duration) {
	var loads []float64
	for _, s := range c.slices {
		if s.usable() && !s.spare {
			loads = append(loads, s.pulse.load.Share())
		}
	}
	auto := slicing.Pin
	if c.auto.Choose(now, loads, c.spread.Carried()) == 1 {
		auto = slicing.Burst
	}
	wanted := c.mode(auto)
	if mode := slicing.Calm(wanted, c.flow.Skew()); mode != c.spreading {
		c.spreading = mode
		c.dirty = true
		c.config.Log.Info("slicing", "mode", mode, "wanted", wanted, "paths_differ_by", c.flow.Skew())
	}
}

// mode is the session's, with auto's present choice in its place.
func (c *Client) mode(auto slicing.Mode) slicing.Mode {
	if c.session == nil || c.session.welcome.Mode == registry.ModeAuto || c.session.welcome.Mode == "" {
		return auto
	}
	mode, err := slicing.ParseMode(string(c.session.welcome.Mode))
	if err != nil {
		return auto
	}
	return mode
}
