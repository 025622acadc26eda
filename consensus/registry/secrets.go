package registry

import (
	"bytes"
	"maps"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// RecoveryWrap is the name of the data key's wrap to the offline recovery key.
const RecoveryWrap = "recovery"

// Holders are the nodes that the present data key is wrapped to. Whoever left
// stays among them until the key is renewed: to take a wrap out of the registry
// takes the key from nobody.
func (s *State) Holders() []identity.NodeID {
	var holders []identity.NodeID
	for name := range s.Wraps {
		var id identity.NodeID
		if id.UnmarshalText([]byte(name)) == nil {
			holders = append(holders, id)
		}
	}
	slices.SortFunc(holders, func(x, y identity.NodeID) int { return bytes.Compare(x[:], y[:]) })
	return holders
}

// apply merges at the present generation of the data key. A new generation
// replaces everything, and must bring every secret along: what stayed under the
// old key would be lost with it.
func (c *PutSecrets) apply(s *State, _ entry) (Result, *Error) {
	if err := c.check(); err != nil {
		return Result{}, err
	}
	if c.Generation < s.DataKey {
		return Result{}, ErrStale.with("data key %d, present is %d", c.Generation, s.DataKey)
	}
	if len(c.Recovery) > 0 && len(s.Cluster.Recovery) > 0 && !bytes.Equal(c.Recovery, s.Cluster.Recovery) {
		return Result{}, ErrExists.with("the mesh has another recovery key")
	}
	secrets, wraps := maps.Clone(s.Secrets), maps.Clone(s.Wraps)
	if c.Generation > s.DataKey {
		if err := c.checkComplete(s); err != nil {
			return Result{}, err
		}
		clear(secrets)
		clear(wraps)
	}
	maps.Copy(secrets, c.Secrets)
	maps.Copy(wraps, c.Wraps)
	if len(secrets) > MaxSecrets || len(wraps) > MaxWraps {
		return Result{}, ErrExhausted.with("%d secrets, %d wraps", len(secrets), len(wraps))
	}
	s.Secrets, s.Wraps, s.DataKey = secrets, wraps, c.Generation
	if len(c.Recovery) > 0 {
		s.Cluster.Recovery = slices.Clone(c.Recovery)
	}
	return Result{}, nil
}

func (c *PutSecrets) check() *Error {
	if len(c.Secrets) > MaxSecrets || len(c.Wraps) > MaxWraps {
		return ErrExhausted.with("%d secrets, %d wraps", len(c.Secrets), len(c.Wraps))
	}
	if len(c.Recovery) > MaxBlob {
		return ErrInvalid.with("recovery key of %d bytes", len(c.Recovery))
	}
	for name, sealed := range c.Secrets {
		if !validName(name) || len(sealed.Box) > MaxBlob || sealed.Generation != c.Generation {
			return ErrInvalid.with("a secret's name, size or generation")
		}
	}
	for name, wrap := range c.Wraps {
		if !validName(name) || len(wrap) > MaxBlob {
			return ErrInvalid.with("a wrap's name or size")
		}
	}
	return nil
}

func (c *PutSecrets) checkComplete(s *State) *Error {
	for name := range s.Secrets {
		if _, ok := c.Secrets[name]; !ok {
			return ErrInvalid.with("a secret is missing under the new data key")
		}
	}
	_, had := s.Wraps[RecoveryWrap]
	if (had || len(s.Cluster.Recovery) > 0) && c.Wraps[RecoveryWrap] == nil {
		return ErrInvalid.with("the recovery wrap of the new data key is missing")
	}
	if len(c.Wraps) == 0 {
		return ErrInvalid.with("nobody could open the new data key")
	}
	return nil
}
