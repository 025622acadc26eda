package agent

import (
	"context"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/admit"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// rules is what clients may reach from this host. It is owned by the control
// loop; what it gives away never changes.
type rules struct {
	rows map[registry.SessionID]protocol.RuleRow // as the arbiter told
	// unsaid: the arbiter is from before there were rules, and tells none.
	unsaid bool
	own    []netip.Addr // of this host, and not of the inside network
	// compiled is what the present tables were built from; a publication makes
	// it anew and takes over what is still true.
	compiled map[ruleKey]compiledRule
	reach    map[netip.Addr]*admit.Rule // by lease, of all sessions here
}

// ruleKey is whom a rule is for: a client, or its sessions with one peer. Those
// who may reach what is pushed to all share one, under no name.
type ruleKey struct {
	client string
	peer   identity.NodeID
}

type compiledRule struct {
	offered []netip.Prefix
	rule    *admit.Rule
}

// learnRules takes what a view says of rules.
func (a *Agent) learnRules(m *protocol.View) {
	r := &a.rules
	if m.Full {
		clear(r.rows)
		if r.unsaid != !m.Judges {
			r.unsaid = !m.Judges
			if r.unsaid {
				a.config.Log.Warn("the arbiter does not say what clients may reach: upgrade it. Until then they reach what this host reaches")
			}
		}
	}
	for _, id := range m.Unrules {
		delete(r.rows, id)
	}
	for _, row := range m.Rules {
		r.rows[row.Session] = row
	}
}

// SetOwn replaces this host's addresses that are not of the inside network.
func (a *Agent) SetOwn(ctx context.Context, own []netip.Addr) { a.must(ctx, ownAddresses(own)) }

type ownAddresses []netip.Addr

func (e ownAddresses) apply(a *Agent) {
	a.rules.own, a.rules.compiled, a.dirty = e, nil, true
}

// compileRules gives every pair the rule of its session, and keeps the rules of
// all sessions here by lease, for the routes and for the host's stack.
func (a *Agent) compileRules() {
	fresh := make(map[ruleKey]compiledRule)
	reach := make(map[netip.Addr]*admit.Rule)
	for _, r := range a.view.routes {
		rule := a.ruleOf(fresh, r.Session, nil)
		for _, lease := range r.Leases {
			reach[lease] = rule
		}
	}
	for _, s := range a.slices.byKey {
		if !s.from.IsZero() {
			continue
		}
		rule := a.ruleOf(fresh, s.key.session, s.rule)
		for _, lease := range s.grant.Leases {
			// The newest session of a lease has the route, where there is one.
			if reach[lease] == nil {
				reach[lease] = rule
			}
		}
		for _, p := range s.pairs() {
			p.SetRule(rule)
		}
	}
	a.rules.compiled, a.rules.reach = fresh, reach
}

// ruleOf is the rule of a session; nil, which admits nothing, for one that nobody
// has told anything of. A grant brings the row that it was made under, so that
// a slice need not wait for the next view.
func (a *Agent) ruleOf(fresh map[ruleKey]compiledRule, id registry.SessionID, granted *protocol.RuleRow) *admit.Rule {
	row, told := a.rules.rows[id]
	switch {
	case a.rules.unsaid:
		return admit.Any()
	case !told && granted == nil:
		return nil
	case !told:
		row = *granted
	}
	key := ruleKey{client: row.Client, peer: row.Peer}
	if len(row.Prefixes) == 0 && row.Peer.IsZero() {
		key.client = ""
	}
	peer := a.view.nodeByID(row.Peer).Inside
	if !row.Peer.IsZero() && !peer.IsValid() {
		return nil // it is no member any more
	}
	offered := admit.Offered(row.Prefixes, a.view.policy.Prefixes, peer)
	known, found := fresh[key]
	if !found {
		known, found = a.rules.compiled[key]
	}
	if !found || !slices.Equal(known.offered, offered) {
		known = compiledRule{slices.Clone(offered), admit.Compile(offered, a.rules.own)}
	}
	fresh[key] = known
	return known.rule
}

// reachable is what the host's own stack is told. Under an arbiter that says
// nothing it judges by what is pushed to all, as it always did.
func (a *Agent) reachable() map[netip.Addr]*admit.Rule {
	if !a.rules.unsaid {
		return a.rules.reach
	}
	pushed := admit.Compile(a.view.policy.Prefixes, nil)
	reach := make(map[netip.Addr]*admit.Rule, len(a.rules.reach))
	for lease := range a.rules.reach {
		reach[lease] = pushed
	}
	return reach
}
