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
	rows map[registry.SessionID]*protocol.RuleRow // as the arbiter told; never changed
	// unsaid: the arbiter is from before there were rules, and tells none.
	unsaid bool
	own    []netip.Addr // of this host, and not of the inside network
	// compiled is the rules in use, by whom they are for, and of each session its one.
	compiled map[ruleKey]*compiledRule
	of       map[registry.SessionID]*compiledRule
	pushed   *admit.Rule // of what is pushed to all; nil: not compiled
}

// ruleKey is whom a rule is for: a client, or its sessions with one peer. Those
// who may reach what is pushed to all share one, under no name.
type ruleKey struct {
	client string
	peer   identity.NodeID
}

type compiledRule struct {
	key     ruleKey
	offered []netip.Prefix
	rule    *admit.Rule
	users   int // sessions
}

func newRules(own []netip.Addr) rules {
	return rules{
		own: own, rows: make(map[registry.SessionID]*protocol.RuleRow),
		compiled: make(map[ruleKey]*compiledRule), of: make(map[registry.SessionID]*compiledRule),
	}
}

// learnRules takes what a view says of rules.
func (a *Agent) learnRules(m *protocol.View) {
	r := &a.rules
	if m.Full {
		a.forgetUntold(m.Rules)
		if r.unsaid != !m.Judges {
			r.unsaid, a.changes.rules = !m.Judges, true
			if r.unsaid {
				a.config.Log.Warn("the arbiter does not say what clients may reach: upgrade it. Until then they reach what this host reaches")
			}
		}
	}
	for _, id := range m.Unrules {
		a.forgetRow(id)
	}
	for _, row := range m.Rules {
		if was, told := r.rows[row.Session]; !told || !was.Equal(row) {
			r.rows[row.Session] = a.ruleGranted(&row)
			a.changes.session(row.Session)
		}
	}
}

// ruleGranted is a row as it came with a grant, or the row itself where none brought it:
// one copy of a row is enough.
func (a *Agent) ruleGranted(row *protocol.RuleRow) *protocol.RuleRow {
	for _, s := range a.slices.bySession[row.Session] {
		if s.rule != nil && s.rule.Equal(*row) {
			return s.rule
		}
	}
	return row
}

// forgetUntold drops the rows that a full view does not say again.
func (a *Agent) forgetUntold(said []protocol.RuleRow) {
	again := make(map[registry.SessionID]bool, len(said))
	for _, row := range said {
		again[row.Session] = true
	}
	for id := range a.rules.rows {
		if !again[id] {
			a.forgetRow(id)
		}
	}
}

func (a *Agent) forgetRow(id registry.SessionID) {
	delete(a.rules.rows, id)
	a.changes.session(id)
}

// SetOwn replaces this host's addresses that are not of the inside network.
func (a *Agent) SetOwn(ctx context.Context, own []netip.Addr) { a.must(ctx, ownAddresses(own)) }

type ownAddresses []netip.Addr

func (e ownAddresses) apply(a *Agent) { a.rules.own, a.changes.rules = e, true }

// forgetRules has every session's rule compiled anew.
func (a *Agent) forgetRules() {
	clear(a.rules.compiled)
	a.rules.pushed = nil
	for id := range a.rules.of {
		a.changes.session(id)
	}
	for id := range a.view.routes {
		a.changes.session(id)
	}
	for id := range a.slices.bySession {
		a.changes.session(id)
	}
}

// peerMoved has the rules compiled anew that let a client reach this node alone.
func (a *Agent) peerMoved(id identity.NodeID) {
	for session, row := range a.rules.rows {
		if row.Peer == id {
			a.changes.session(session)
		}
	}
	for session, all := range a.slices.bySession {
		if slices.ContainsFunc(all, func(s *slice) bool { return s.rule != nil && s.rule.Peer == id }) {
			a.changes.session(session)
		}
	}
}

// settleRule is the rule of a session, which it has from now on; nil, which admits
// nothing, for one that nobody has told anything of.
func (a *Agent) settleRule(id registry.SessionID) *admit.Rule {
	r := &a.rules
	was := r.of[id]
	now := a.compiledFor(id)
	if now != nil {
		now.users++
		r.of[id] = now
	} else {
		delete(r.of, id)
	}
	if was != nil {
		if was.users--; was.users == 0 && r.compiled[was.key] == was {
			delete(r.compiled, was.key)
		}
	}
	switch {
	case r.unsaid:
		return admit.Any()
	case now == nil:
		return nil
	}
	return now.rule
}

// compiledFor is the compiled rule for a session. What was compiled for the same
// client is taken if it is still true.
func (a *Agent) compiledFor(id registry.SessionID) *compiledRule {
	row, told := a.ruleRow(id)
	if a.rules.unsaid || !told {
		return nil
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
	known := a.rules.compiled[key]
	if known == nil || !slices.Equal(known.offered, offered) {
		known = &compiledRule{key: key, offered: slices.Clone(offered), rule: admit.Compile(offered, a.rules.own)}
		a.rules.compiled[key] = known
	}
	return known
}

// ruleRow is what is known of a session's client. A grant brings the row that it was
// made under, so that a slice need not wait for the next view.
func (a *Agent) ruleRow(id registry.SessionID) (row protocol.RuleRow, told bool) {
	if row := a.rules.rows[id]; row != nil {
		return *row, true
	}
	all := a.slices.bySession[id]
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].rule != nil {
			return *all[i].rule, true
		}
	}
	return row, false
}

// pushedRule is what the host's own stack judges by under an arbiter that says
// nothing, as it always did.
func (a *Agent) pushedRule() *admit.Rule {
	if a.rules.pushed == nil {
		a.rules.pushed = admit.Compile(a.view.policy.Prefixes, nil)
	}
	return a.rules.pushed
}
