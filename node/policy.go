package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// policyKey is one word of the policy that an operator may change.
type policyKey struct {
	name string
	set  func(*registry.Policy, string) error
	is   func(registry.Policy) uint64
}

const (
	// unlimited is what an operator calls no limit.
	unlimited = "unlimited"
	// byVoters is what an operator calls the headless time that follows from how many vote.
	byVoters = "by-voters"
)

func policyKeys() []policyKey {
	return []policyKey{
		{control.KeySessions, setSessions, func(p registry.Policy) uint64 { return uint64(p.Sessions) }},
		{control.KeyHeadless, setHeadless, func(p registry.Policy) uint64 { return p.Headless }},
	}
}

func setSessions(p *registry.Policy, value string) error {
	if value == unlimited {
		p.Sessions = 0
		return nil
	}
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 || n > registry.MaxSessions {
		return fmt.Errorf("%q is neither a number from 1 to %d nor %s", value, registry.MaxSessions, unlimited)
	}
	p.Sessions = n
	return nil
}

func setHeadless(p *registry.Policy, value string) error {
	if value == byVoters {
		p.Headless = 0
		return nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < HeadlessLeast || d > registry.MaxHeadless*time.Second || d%time.Second != 0 {
		return fmt.Errorf("%q is neither a time in whole seconds from %v to %v, such as 30m, nor %s", value, HeadlessLeast, registry.MaxHeadless*time.Second, byVoters)
	}
	p.Headless = uint64(d / time.Second)
	return nil
}

// policyKeyOf is the key of that name.
func policyKeyOf(name string) (policyKey, error) {
	var names []string
	for _, k := range policyKeys() {
		if k.name == name {
			return k, nil
		}
		names = append(names, k.name)
	}
	return policyKey{}, control.Errorf(control.CodeUsage, "meshcrypt policy set --help", "the policy has no key %q that can be set; these can: %s", name, strings.Join(names, ", "))
}

// setKey changes one word of a policy; the registry judges the whole.
func setKey(p *registry.Policy, key policyKey, value string) error {
	if err := key.set(p, value); err != nil {
		return control.Errorf(control.CodeUsage, "meshcrypt policy set --help", "%s: %v", key.name, err)
	}
	return nil
}

// setPolicy changes one key of the policy, if every node that keeps the registry can read it.
func (n *Node) setPolicy(r *http.Request, in control.PolicyRequest) (control.Policy, error) {
	a, err := n.term()
	if err != nil {
		return control.Policy{}, err
	}
	policy, err := n.policy()
	if err != nil {
		return control.Policy{}, err
	}
	key, err := policyKeyOf(in.Key)
	if err == nil {
		err = setKey(new(policy), key, in.Value)
	}
	if err != nil {
		return control.Policy{}, err
	}
	older, unheard, err := a.Older(r.Context())
	switch {
	case err != nil:
		return control.Policy{}, err
	case len(older) > 0:
		return control.Policy{}, control.Errorf(control.CodeDegraded, "upgrade it, then run the same command again",
			"the registry is kept by an older build, which cannot read this policy, on %s", strings.Join(older, ", "))
	case len(unheard) > 0:
		return control.Policy{}, control.Errorf(control.CodeDegraded, "start its daemon if that is down, wait some seconds, and run the same command again",
			"%s keeps the registry and has not said yet whether it can read this policy", strings.Join(unheard, ", "))
	}
	if policy, err = n.changePolicy(r.Context(), policy, key, in.Value); err != nil {
		return control.Policy{}, err
	}
	n.config.Log.Info("policy changed", "key", in.Key, "value", in.Value, "version", policy.Version)
	return n.showPolicy(r, control.Nothing{})
}

// changePolicy sets a key in place of what a policy that was read says, and returns the policy
// that it made. The registry takes it only over the version that was read. Where another
// operator was faster, with another key, it is set over theirs; with this key that is for
// whoever asked to judge.
func (n *Node) changePolicy(ctx context.Context, read registry.Policy, key policyKey, value string) (registry.Policy, error) {
	for now := read; ; {
		after := now
		if err := setKey(&after, key, value); err != nil {
			return now, err
		}
		if is := key.is(now); is != key.is(read) && is != key.is(after) {
			return now, control.Errorf(control.CodeFailed, "meshcrypt policy show; then run the same command again if it is still wanted",
				"%s was changed by somebody else in the same moment, and was left as they set it", key.name)
		}
		result, err := n.propose(ctx, registry.Command{PutPolicy: &registry.PutPolicy{Policy: after, Over: now.Version}})
		if result.Code != registry.ErrStale.Code {
			after.Version++
			return after, err
		}
		if now, err = n.policy(); err != nil {
			return now, err
		}
	}
}

// policy is the one that operators have set.
func (n *Node) policy() (policy registry.Policy, err error) {
	err = n.view(func(s *registry.State) { policy = s.Policy })
	return policy, err
}

// showPolicy is the policy as it is in force, and what of the pool is given away.
func (n *Node) showPolicy(*http.Request, control.Nothing) (out control.Policy, err error) {
	err = n.view(func(s *registry.State) {
		p := s.PolicyInForce()
		out = control.Policy{
			Schema: "meshcrypt.policy/v1", Version: p.Version, Headless: time.Duration(p.Headless) * time.Second,
			Overload: string(p.Overload), Bandwidth: p.Bandwidth, Slices: p.Slices, Sessions: p.Sessions,
			Mode: string(p.Mode), Modes: p.Modes, Suites: p.Suites, Prefixes: p.Prefixes, DNS: p.DNS, Search: p.Search,
			HandOn: string(p.HandOn), Direct: p.Direct, Pool: poolRows(s),
		}
	})
	return out, err
}

// poolRows is the use of the pool, part by part.
func poolRows(s *registry.State) (rows []control.PoolRow) {
	for _, u := range s.PoolUse() {
		row := control.PoolRow{Prefix: u.Prefix, Size: u.Size, Free: u.Free(), Open: u.Open, Held: u.Held}
		if u.Until > s.Tick {
			row.Until = time.Duration(u.Until-s.Tick) * time.Second
		}
		rows = append(rows, row)
	}
	return rows
}

// pool is the use of the pool as the arbiter sees it, and nothing elsewhere.
func (n *Node) pool() (rows []control.PoolRow) {
	store := n.store.Load()
	if store == nil || n.arbiter.Load() == nil {
		return nil
	}
	store.View(func(s *registry.State) { rows = poolRows(s) })
	return rows
}

// fullParts says which parts of the pool have no address left.
func fullParts(rows []control.PoolRow) error {
	var errs []error
	for _, r := range rows {
		if r.Free == 0 {
			errs = append(errs, fmt.Errorf("no address is free in pool part %s: %d in sessions, %d held (meshcrypt sessions shows whose)", r.Prefix, r.Open, r.Held))
		}
	}
	return errors.Join(errs...)
}
