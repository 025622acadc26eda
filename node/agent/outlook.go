package agent

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// outlook is what rows of many sessions were made of, beside what is their own. It is
// small, so it is made anew whenever something of it may have changed, and compared:
// the rows that stand on what did are made anew, and no others. It never changes.
type outlook struct {
	sealed bool
	ways   map[identity.Index]way // to the agents that routes name
	// straight: opened packets go out of this host's own TUN. Else onward says where.
	straight bool
	onward   []onwardWay
}

// way is what routes know of a node that is handed on to.
type way struct {
	inside netip.Addr
	silent bool
	link   *dataplane.Pair
}

// onwardWay is where a part's opened packets are handed on to; not at all, for a node
// of index 0.
type onwardWay struct {
	ranges [2]netip.Prefix // of the part, of either family
	to     identity.Index
	way
}

func (a *Agent) look() outlook {
	o := outlook{
		sealed:   a.sealed(),
		ways:     make(map[identity.Index]way, len(a.view.fed)),
		straight: a.view.egress != registry.EgressMasquerade && a.probes.pathVerdict() == probe.PathGood,
	}
	for index := range a.view.fed {
		o.ways[index] = a.wayTo(a.view.nodes[index], o.sealed)
	}
	if o.straight {
		return o
	}
	for _, prefix := range slices.SortedFunc(maps.Keys(a.view.parts), netip.Prefix.Compare) {
		p := a.view.parts[prefix]
		w := onwardWay{ranges: [2]netip.Prefix{p.row.Prefix, p.row.Other.Prefix}}
		if to := a.egressOf(p); to.Index != a.config.Index && to.Inside.IsValid() {
			w.to, w.way = to.Index, a.wayTo(to, o.sealed)
			w.silent = false // whether to hand on to it was egressOf's to say
		}
		o.onward = append(o.onward, w)
	}
	return o
}

func (a *Agent) wayTo(n protocol.NodeRow, sealed bool) way {
	w := way{inside: n.Inside, silent: a.probes.silent(n.Index)}
	if sealed {
		w.link = a.linkTo(n)
	}
	return w
}

// compareOutlook has the rows made anew that stand on what is other now. Whether a node is
// silent, or by which SA it is reached, may wait for its turn; where it is, and whether what goes
// there is sealed, may not: what goes by a row of before would be read by others.
func (a *Agent) compareOutlook() {
	t := a.tables
	was, now := t.outlook, a.look()
	t.outlook, t.links = now, a.linkTable()
	if was.sealed != now.sealed || !maps.Equal(was.ways, now.ways) {
		for id, r := range a.view.routes {
			stands := func(other func(was, now way) bool) bool {
				return slices.ContainsFunc(r.Slices, func(s protocol.RouteSlice) bool { return other(was.ways[s.Agent], now.ways[s.Agent]) })
			}
			switch {
			case was.sealed != now.sealed || stands(func(was, now way) bool { return was.inside != now.inside }):
				a.changes.session(id)
			case stands(func(was, now way) bool { return was != now }):
				mark(&a.changes.routes, id)
			}
		}
	}
	if was.sealed != now.sealed || was.straight != now.straight || !slices.Equal(was.onward, now.onward) {
		for _, s := range a.slices.byKey {
			a.steer(s)
		}
	}
}
