package client

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// ErrProfile says that a profile cannot be used, and which line and key are wrong.
var ErrProfile = errors.New("client: unusable profile")

// Profile is what a client needs to know before it connects: where the mesh
// is and how to recognise it. It holds no secret.
type Profile struct {
	Cluster  identity.ClusterID
	CAHash   [32]byte
	Gateways []netip.AddrPort
	User     string
	Method   string // how the user logs in, by the names of protocol.Auth; empty: by password
	// Local keeps all private networks that the host is attached to out of the tunnel.
	Local bool
}

// profileFile is the profile's text form.
type profileFile struct {
	Cluster  string   `toml:"cluster"`
	CA       string   `toml:"ca"`
	Gateways []string `toml:"gateways"`
	User     string   `toml:"user,omitempty"`
	Method   string   `toml:"method,omitempty"`
	Local    bool     `toml:"local,omitempty"`
}

// ParseProfile reads a profile strictly: an unknown key is an error.
func ParseProfile(text []byte) (Profile, error) {
	var file profileFile
	meta, err := toml.Decode(string(text), &file)
	var syntax toml.ParseError
	switch {
	case errors.As(err, &syntax):
		return Profile{}, fmt.Errorf("%w: line %d: %s", ErrProfile, syntax.Position.Line, syntax.Message)
	case err != nil:
		return Profile{}, fmt.Errorf("%w: %w", ErrProfile, err)
	case len(meta.Undecoded()) > 0:
		return Profile{}, fmt.Errorf("%w: unknown key %q", ErrProfile, meta.Undecoded()[0])
	}
	return file.profile()
}

func (f profileFile) profile() (p Profile, err error) {
	if err := p.Cluster.UnmarshalText([]byte(f.Cluster)); err != nil {
		return p, fmt.Errorf("%w: key cluster: %w", ErrProfile, err)
	}
	if p.CAHash, err = pki.ParseHash(f.CA); err != nil {
		return p, fmt.Errorf("%w: key ca: %w (a profile without the CA's hash trusts anybody)", ErrProfile, err)
	}
	for _, text := range f.Gateways {
		gateway, err := netip.ParseAddrPort(text)
		if err != nil {
			return p, fmt.Errorf("%w: key gateways: %w", ErrProfile, err)
		}
		p.Gateways = append(p.Gateways, gateway)
	}
	if n := len(p.Gateways); n == 0 || n > MaxGateways {
		return p, fmt.Errorf("%w: key gateways has %d entries, want 1 to %d", ErrProfile, n, MaxGateways)
	}
	p.User, p.Method, p.Local = f.User, f.Method, f.Local
	switch f.Method {
	case "", protocol.MethodPassword, protocol.MethodSharedKey, protocol.MethodCertificate:
		return p, nil
	}
	return p, fmt.Errorf("%w: key method: %q is not known to this version", ErrProfile, f.Method)
}

// Text is the profile as a file.
func (p Profile) Text() string {
	var b strings.Builder
	b.WriteString("# meshcrypt client profile: where the mesh is and how to recognise it.\n")
	gateways := make([]string, len(p.Gateways))
	for i, g := range p.Gateways {
		gateways[i] = g.String()
	}
	// Encoding these plain fields into memory cannot fail.
	_ = toml.NewEncoder(&b).Encode(profileFile{
		Cluster: p.Cluster.String(), CA: pki.FormatHash(p.CAHash), Gateways: gateways, User: p.User, Method: p.Method, Local: p.Local,
	})
	return b.String()
}
