package registry

import (
	"crypto/sha256"
	"slices"
)

// ReasonRevoked is why the sessions of a revoked client ended.
const ReasonRevoked = "revoked"

func (c *PutClient) apply(s *State, _ entry) (Result, *Error) {
	if err := c.check(); err != nil {
		return Result{}, err
	}
	known, exists := s.Clients.Find(c.Client.Name)
	switch {
	case !exists && c.Replace:
		return Result{}, ErrNotFound.with("client %s", c.Client.Name)
	case !exists && s.Clients.Len() >= s.Room().Clients:
		return Result{}, ErrExhausted.with("%d clients", s.Room().Clients)
	case exists && c.Replace && known.Revoked: // an edit never readmits
		return Result{}, ErrRevoked.with("client %s", c.Client.Name)
	case exists && !c.Replace && !known.Revoked:
		return Result{}, ErrExists.with("client %s", c.Client.Name)
	}
	client := c.Client
	client.Prefixes = slices.Clone(client.Prefixes)
	client.SharedKey = client.SharedKey.clone()
	client.Revoked, client.Created = false, s.Tick
	if exists && c.Replace {
		client.Created = known.Created
	}
	s.Clients.Put(client.Name, &client)
	if exists && !slices.Equal(known.Prefixes, client.Prefixes) {
		s.touchSessionsOf(client.Name)
	}
	return Result{}, nil
}

func (c *PutClient) check() *Error {
	switch {
	case !validName(c.Client.Name):
		return ErrInvalid.with("client name %q", c.Client.Name)
	case c.Client.Group != "" && !validName(c.Client.Group):
		return ErrInvalid.with("group name %q", c.Client.Group)
	}
	if k := c.Client.SharedKey; k != nil && (len(k.Stored) != sha256.Size || len(k.Server) != sha256.Size) {
		return ErrInvalid.with("pre-shared key of %d and %d bytes", len(k.Stored), len(k.Server))
	}
	if a := c.Client.Authority; a != "" && !validName(a) {
		return ErrInvalid.with("authority name %q", a)
	}
	return checkNetworks("prefixes", MaxPrefixes, c.Client.Prefixes)
}

func (k *SharedKey) clone() *SharedKey {
	if k == nil {
		return nil
	}
	return &SharedKey{Stored: slices.Clone(k.Stored), Server: slices.Clone(k.Server)}
}

// newer reports whether the client logs in by what only version 3 of the codecs knows.
func (c *Client) newer() bool { return c != nil && (c.SharedKey != nil || c.Authority != "") }

func (c *RevokeClient) apply(s *State, _ entry) (Result, *Error) {
	client, ok := s.Clients.Find(c.Name)
	if !ok {
		return Result{}, ErrNotFound.with("client %q", c.Name)
	}
	revoked := *client
	revoked.Revoked = true
	s.Clients.Put(c.Name, &revoked)
	s.revokeCertificates(c.Name)
	for ses := range s.Living(c.Name) {
		s.endSession(ses, ReasonRevoked, ses.Bytes)
	}
	s.disownLeases(c.Name)
	return Result{}, nil
}

// admitted finds a client that is not revoked.
func (s *State) admitted(name string) *Error {
	client, ok := s.Clients.Find(name)
	if !ok {
		return ErrNotFound.with("client %q", name)
	}
	if client.Revoked {
		return ErrRevoked.with("client %s", name)
	}
	return nil
}
