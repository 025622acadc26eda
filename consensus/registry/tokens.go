package registry

import (
	"maps"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func (c *CreateToken) apply(s *State, _ entry) (Result, *Error) {
	t := c.Token
	switch {
	case !validName(t.ID):
		return Result{}, ErrInvalid.with("token id %q", t.ID)
	case len(t.Verify) == 0 || len(t.Verify) > MaxName:
		return Result{}, ErrInvalid.with("token key of %d bytes", len(t.Verify))
	case t.May == 0 || t.May&^allRoles != 0:
		return Result{}, ErrInvalid.with("roles %#x", uint8(t.May))
	case t.Uses < 1 || t.Uses > MaxUses:
		return Result{}, ErrInvalid.with("%d uses, want 1 to %d", t.Uses, MaxUses)
	case t.Expires < 1 || t.Expires > MaxTokenLife:
		return Result{}, ErrInvalid.with("a life of %d s, want 1 to %d", t.Expires, MaxTokenLife)
	case s.Tokens[t.ID] != nil:
		return Result{}, ErrExists.with("token %s", t.ID)
	case len(s.Tokens) >= MaxTokens:
		return Result{}, ErrExhausted.with("%d tokens", MaxTokens)
	}
	s.putToken(&Token{
		ID: t.ID, Verify: slices.Clone(t.Verify), May: t.May, Uses: t.Uses, Expires: s.Tick + t.Expires,
		Burned: make(map[identity.NodeID]identity.PublicKey),
	})
	return Result{}, nil
}

func (c *RevokeToken) apply(s *State, _ entry) (Result, *Error) {
	t, ok := s.Tokens[c.ID]
	if !ok {
		return Result{}, ErrNotFound.with("token %q", c.ID)
	}
	s.putToken(t.revoked())
	return Result{}, nil
}

func (s *State) putToken(t *Token) {
	s.Tokens = maps.Clone(s.Tokens)
	s.Tokens[t.ID] = t
}

// burn is the token with one use taken for the node's key.
func (t *Token) burn(n *Node) *Token {
	burned := *t
	burned.Uses--
	burned.Burned = maps.Clone(t.Burned)
	burned.Burned[n.ID] = n.Key
	return &burned
}

func (t *Token) revoked() *Token {
	revoked := *t
	revoked.Revoked = true
	return &revoked
}

// expireTokens forgets tokens that nobody can use or retry any more.
func (s *State) expireTokens() {
	over := func(_ string, t *Token) bool { return s.Tick >= t.Expires+EndedKept }
	s.Tokens = without(s.Tokens, over)
}

func (c *Reincarnate) apply(s *State, _ entry) (Result, *Error) {
	if c.Incarnation <= s.Cluster.Incarnation {
		return Result{}, ErrStale.with("incarnation %d, present is %d", c.Incarnation, s.Cluster.Incarnation)
	}
	s.Cluster.Incarnation = c.Incarnation
	s.EpochFloor = max(s.EpochFloor, c.Epochs)
	for _, t := range s.Tokens {
		s.putToken(t.revoked())
	}
	s.forgetTracking()
	s.touchAll()
	return Result{}, nil
}
