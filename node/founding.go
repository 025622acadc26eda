package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

// FoundConfig is what init decides for a new mesh.
type FoundConfig struct {
	Place    Place
	Pool     []netip.Prefix
	Egress   registry.EgressKind
	Moving   []netip.Addr   // inside addresses that move with the pool parts
	Prefixes []netip.Prefix // routes pushed to clients
	DNS      []netip.Addr   // servers that clients resolve names by
	Search   []string       // domains below which they look for short names
	Suites   []esp.Suite    // ciphers that sessions may use, best first; none: any
	// Modes are the slicing modes that clients may ask for, the first one for
	// those that do not; none: all, auto the first.
	Modes []string
}

// SliceModes are the slicing modes by name.
func SliceModes() (names []string) {
	for _, m := range registry.Modes() {
		names = append(names, string(m))
	}
	return names
}

// Place is where and how a node takes part: what its operator says of the host.
type Place struct {
	Name     string
	Listen   netip.AddrPort
	Outer    netip.AddrPort
	InsideIf string
	Inside   netip.Addr
	Capacity uint32 // thousandths of a CPU
	TUN      string
}

// Founded is what init prints once and nobody stores.
type Founded struct {
	Cluster  identity.ClusterID
	CAHash   [32]byte
	Token    string // admits the first hosts, voters among them
	Recovery string // opens the registry's secrets when every voter is lost
}

// Found writes a data directory that founds a new mesh at its first run. It
// refuses a directory that belongs to a node already.
func Found(dir *datadir.Dir, config FoundConfig, now time.Time) (Founded, error) {
	if dir.HasNode() {
		return Founded{}, fmt.Errorf("%w: this host is a member of a mesh (meshcrypt run starts it; meshcrypt leave gives it up)", datadir.ErrState)
	}
	parts, err := cutPool(config.Pool, config.Moving)
	if err != nil {
		return Founded{}, err
	}
	secrets, err := newMeshSecrets(now)
	if err != nil {
		return Founded{}, err
	}
	token, verify, err := pki.NewToken(rand.Reader, secrets.authority.Hash())
	if err != nil {
		return Founded{}, err
	}
	if err := secrets.save(dir, config, parts, token, verify, now); err != nil {
		return Founded{}, err
	}
	return Founded{
		Cluster: secrets.authority.Cluster(), CAHash: secrets.authority.Hash(),
		Token: token.String(), Recovery: secrets.recovery.RecoveryText(),
	}, nil
}

// meshSecrets is what exists in clear only while init runs.
type meshSecrets struct {
	key       identity.Key
	wrap      vault.Recipient
	recovery  vault.Recipient
	authority *pki.Authority
	data      vault.DataKey
	gossip    []byte
}

func newMeshSecrets(now time.Time) (s meshSecrets, err error) {
	var cluster identity.ClusterID
	s.gossip = make([]byte, 32)
	rand.Read(cluster[:])
	rand.Read(s.gossip)
	var errs [5]error
	s.key, errs[0] = identity.NewKey(rand.Reader)
	s.wrap, errs[1] = vault.NewRecipient(rand.Reader)
	s.recovery, errs[2] = vault.NewRecipient(rand.Reader)
	s.authority, errs[3] = pki.NewAuthority(rand.Reader, cluster, now)
	s.data, errs[4] = vault.NewDataKey(rand.Reader, 1)
	return s, errors.Join(errs[:]...)
}

// save writes keys before the node file: HasNode is true only of a whole state.
func (s *meshSecrets) save(dir *datadir.Dir, config FoundConfig, parts []registry.Part, token pki.Token, verify []byte, now time.Time) error {
	found, err := s.found(config, parts)
	if err != nil {
		return err
	}
	// What the registry would refuse at the first run is refused now, while the
	// operator can still choose.
	if r := registry.Apply(registry.New(), 1, 1, registry.Command{ID: registry.CommandID{1}, Found: &found}); r.Err() != nil {
		return fmt.Errorf("this mesh cannot be founded: %w", r.Err())
	}
	cert, err := s.authority.IssueNode(pki.MakeRequest(s.key), allRoles.Names(), now)
	if err != nil {
		return err
	}
	founding := datadir.Founding{Found: found, Tokens: []registry.Token{{
		ID: token.ID, Verify: verify, May: allRoles, Uses: FirstTokenUses, Expires: registry.Tick(FirstTokenLife.Seconds()),
	}}}
	rand.Read(founding.ID[0][:])
	rand.Read(founding.ID[1][:])
	p := config.Place
	return errors.Join(
		dir.SaveKeys(datadir.Keys{Identity: s.key.Seed(), Wrap: s.wrap.Seed()}),
		dir.SaveCertificate(cert),
		dir.SaveMembers(datadir.Members{GossipKey: s.gossip}),
		dir.SaveFounding(founding),
		dir.SaveNode(datadir.Node{
			Cluster: s.authority.Cluster(), CA: s.authority.Certificate(), Name: p.Name, Index: 1,
			Listen: p.Listen, Outer: p.Outer, InsideIf: p.InsideIf, Inside: p.Inside,
			Capacity: p.Capacity, TUN: p.TUN, Pool: config.Pool, Egress: config.Egress, Founder: true,
		}))
}

// found is the registry's first command.
func (s *meshSecrets) found(config FoundConfig, parts []registry.Part) (f registry.Found, err error) {
	cluster := s.authority.Cluster()
	var errs [4]error
	f.Secrets = make(map[string]registry.Sealed)
	f.Wraps = make(map[string][]byte)
	seal := func(name string, secret []byte) (err error) {
		box, err := s.data.Seal(rand.Reader, cluster, name, secret)
		f.Secrets[name] = registry.Sealed{Generation: s.data.Generation(), Box: box}
		return err
	}
	errs[0] = seal(arbiter.SecretCA, s.authority.Seed())
	errs[1] = seal(arbiter.SecretGossip, s.gossip)
	f.Wraps[s.key.ID().String()], errs[2] = vault.Wrap(s.data, s.wrap.Public(), cluster)
	f.Wraps[registry.RecoveryWrap], errs[3] = vault.Wrap(s.data, s.recovery.Public(), cluster)
	f.Cluster = registry.Cluster{ID: cluster, Incarnation: 1, CA: s.authority.Certificate(), Pool: config.Pool, Egress: config.Egress,
		Recovery: s.recovery.Public()}
	f.Policy = registry.Policy{Overload: registry.OverloadAbsorb, Mode: registry.ModeAuto, Prefixes: config.Prefixes,
		DNS: config.DNS, Search: config.Search}
	for _, suite := range config.Suites {
		f.Policy.Suites = append(f.Policy.Suites, uint16(suite))
	}
	for _, m := range config.Modes {
		f.Policy.Modes = append(f.Policy.Modes, registry.Mode(m))
		f.Policy.Mode = f.Policy.Modes[0]
	}
	id := s.key.ID()
	for i := range parts {
		parts[i].Egress = id
	}
	f.Parts = parts
	p := config.Place
	f.Founder = registry.Node{
		ID: id, Key: s.key.Public(), WrapKey: s.wrap.Public(), Name: p.Name, Index: 1, May: allRoles,
		Is: dataRoles | registry.RoleVoter, Outer: p.Outer, Inside: p.Inside, Capacity: p.Capacity,
	}
	return f, errors.Join(errs[:]...)
}

// cutPool gives each moving inside address its part of the IPv4 pool; without
// moving addresses the pool is one part and its routes are made by hand.
func cutPool(pool []netip.Prefix, moving []netip.Addr) ([]registry.Part, error) {
	if len(pool) == 0 {
		return nil, errors.New("a mesh needs a pool of inner addresses (--pool 10.77.0.0/16)")
	}
	count := max(1, len(moving))
	bits := 0
	for 1<<bits < count {
		bits++
	}
	var parts []registry.Part
	for _, prefix := range pool {
		if prefix.Masked() != prefix {
			return nil, fmt.Errorf("pool %s has host bits set (--pool %s)", prefix, prefix.Masked())
		}
		if prefix.Bits()+bits > prefix.Addr().BitLen()-4 {
			return nil, fmt.Errorf("pool %s is too small for %d parts", prefix, count)
		}
		addr := prefix.Addr()
		for i := range count {
			part := registry.Part{Prefix: netip.PrefixFrom(addr, prefix.Bits()+bits), Epoch: 1}
			if i < len(moving) && moving[i].Is4() == prefix.Addr().Is4() {
				part.Inside = moving[i]
			}
			parts = append(parts, part)
			addr = lastOf(part.Prefix).Next()
		}
	}
	return parts, nil
}

// lastOf is the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	raw := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 0x80 >> (bit % 8)
	}
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

const (
	dataRoles = registry.RoleGateway | registry.RoleAgent
	allRoles  = dataRoles | registry.RoleVoter
)
