package arbiter

import (
	"cmp"
	"context"
	"fmt"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
)

// renewal is a new generation of the data key on its way to the log. While its
// outcome is unknown the same command is proposed again under the same id: a
// second key of the same generation would mix with the first.
type renewal struct {
	key     vault.DataKey
	command registry.Command
}

// planRenewal renews the data key when somebody who could open it keeps the log
// no more. What decides stands in the registry and the Raft configuration, so the
// next arbiter goes on where this one ended.
func (a *Arbiter) planRenewal() func(context.Context) error {
	if a.renewal == nil {
		left, able := a.leftHolders()
		switch {
		case len(left) == 0:
			return nil
		case !able:
			a.warnOfOldKey(left)
			return nil
		}
		r, err := a.newRenewal()
		if err != nil {
			return func(context.Context) error { return err }
		}
		a.renewal = r
	}
	r := a.renewal
	return func(ctx context.Context) error {
		result, err := a.config.Store.Propose(ctx, r.command)
		a.must(ctx, renewed{r, result, err})
		if err := cmp.Or(err, result.Err()); err != nil {
			return fmt.Errorf("renew the data key: %w", err)
		}
		return nil
	}
}

// leftHolders are the nodes that the data key is wrapped to, though they keep no
// log and will not be asked to; able says that there is a recovery key to wrap a
// new one to.
func (a *Arbiter) leftHolders() (left []identity.NodeID, able bool) {
	keeps := make(map[identity.NodeID]bool)
	for _, server := range a.config.Store.Servers() {
		keeps[server.ID] = true
	}
	a.config.Store.View(func(s *registry.State) {
		able = len(s.Cluster.Recovery) > 0
		for _, id := range s.Holders() {
			if n := s.Nodes[id]; !keeps[id] && (n == nil || !a.eligible(n)) {
				left = append(left, id)
			}
		}
	})
	return left, able
}

func (a *Arbiter) warnOfOldKey(left []identity.NodeID) {
	if a.warned {
		return
	}
	a.warned = true
	a.config.Log.Warn("the data key is not renewed though a voter left: this mesh was founded without its recovery key; "+
		"it learns the key by meshcrypt operator recover --make-this-node-the-only-voter --recovery-key-file FILE", "left", a.nodeName(left[0]))
}

// newRenewal seals every secret under a fresh key, wrapped to all who vote, or had the
// last one and keep the log, and to the offline recovery key.
func (a *Arbiter) newRenewal() (r *renewal, err error) {
	servers := a.config.Store.Servers()
	a.config.Store.View(func(s *registry.State) {
		put := &registry.PutSecrets{Wraps: make(map[string][]byte), Secrets: make(map[string]registry.Sealed)}
		r = &renewal{command: registry.Command{ID: a.commandID(), PutSecrets: put}}
		if r.key, err = a.data.Next(a.config.Random); err != nil {
			return
		}
		put.Generation = r.key.Generation()
		if err = a.reseal(r.key, s, put.Secrets); err != nil {
			return
		}
		if put.Wraps[registry.RecoveryWrap], err = vault.Wrap(r.key, s.Cluster.Recovery, s.Cluster.ID); err != nil {
			return
		}
		for _, server := range servers {
			n := s.Nodes[server.ID]
			if n == nil || n.Removed || !server.Voter && s.Wraps[n.ID.String()] == nil {
				continue
			}
			if put.Wraps[n.ID.String()], err = vault.Wrap(r.key, n.WrapKey, s.Cluster.ID); err != nil {
				return
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("renew the data key: %w", err)
	}
	return r, nil
}

// reseal moves every secret from the present data key under the next.
func (a *Arbiter) reseal(next vault.DataKey, s *registry.State, into map[string]registry.Sealed) error {
	for name, sealed := range s.Secrets {
		secret, err := a.data.Open(s.Cluster.ID, name, sealed.Box)
		if err != nil {
			return fmt.Errorf("secret %q: %w", name, err)
		}
		box, err := next.Seal(a.config.Random, s.Cluster.ID, name, secret)
		if err != nil {
			return fmt.Errorf("secret %q: %w", name, err)
		}
		into[name] = registry.Sealed{Generation: next.Generation(), Box: box}
	}
	return nil
}

// renewed is the outcome of a renewal.
type renewed struct {
	r      *renewal
	result registry.Result
	err    error
}

func (e renewed) apply(a *Arbiter) {
	if e.err != nil {
		return // unknown: the same command again
	}
	a.renewal = nil
	if e.result.Code != "" {
		return // the log tells; what the registry lacks is planned anew
	}
	a.data = e.r.key
	a.config.Log.Info("data key renewed", "generation", a.data.Generation())
}
