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
	"github.com/meshcrypt/meshcrypt/node/host"
)

// FoundConfig is what init decides for a new mesh.
type FoundConfig struct {
	Place    Place
	Pool     []netip.Prefix // empty: see defaultPool
	Egress   registry.EgressKind
	Moving   []netip.Addr    // inside addresses that move with the pool parts
	Prefixes []netip.Prefix  // routes pushed to clients
	DNS      []netip.Addr    // servers that clients resolve names by
	Search   []string        // domains below which they look for short names
	Suites   []esp.Suite     // ciphers that sessions may use, best first; none: any
	HandOn   registry.HandOn // how plaintext passes between nodes; empty: in clear
	Direct   bool            // clients may send slices straight to their agents
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
	Other    netip.AddrPort // of the other family; may be zero
	InsideIf string
	Inside   netip.Addr
	Capacity uint32 // thousandths of a CPU
	TUN      string
	// Exposed says that strangers reach the inside interface: what nodes hand on is
	// sealed then.
	Exposed bool
	// Userspace is without a TUN: flows of clients end in the process, and the
	// host is left as it is. The mesh has to masquerade.
	Userspace bool
}

// Founded is what init prints once and nobody stores.
type Founded struct {
	Cluster  identity.ClusterID
	CAHash   [32]byte
	Pool     []netip.Prefix
	Token    string // admits the first hosts, voters among them
	Recovery string // opens the registry's secrets when every voter is lost
}

// Found writes a data directory that founds a new mesh at its first run. It
// refuses a directory that belongs to a node already.
func Found(dir *datadir.Dir, config FoundConfig, now time.Time) (Founded, error) {
	if dir.HasNode() {
		return Founded{}, fmt.Errorf("%w: this host is a member of a mesh (meshcrypt run starts it; meshcrypt leave gives it up)", datadir.ErrState)
	}
	if config.Place.Userspace && config.Egress != registry.EgressMasquerade {
		return Founded{}, errors.New("a node without a TUN can only masquerade (--egress masquerade)")
	}
	secrets, err := newMeshSecrets(now)
	if err != nil {
		return Founded{}, err
	}
	if len(config.Pool) == 0 {
		config.Pool = defaultPool(secrets.authority.Cluster(), host.HasIPv6())
	}
	parts, err := cutPool(config.Pool, config.Moving)
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
		Cluster: secrets.authority.Cluster(), CAHash: secrets.authority.Hash(), Pool: config.Pool,
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
	// The last of them makes this a node, so none comes after one that failed.
	for _, save := range []func() error{
		func() error { return dir.SaveKeys(datadir.Keys{Identity: s.key.Seed(), Wrap: s.wrap.Seed()}) },
		func() error { return dir.SaveCertificate(cert) },
		func() error { return dir.SaveMembers(datadir.Members{GossipKey: s.gossip}) },
		func() error { return dir.SaveFounding(founding) },
		func() error {
			return dir.SaveNode(datadir.Node{
				Cluster: s.authority.Cluster(), CA: s.authority.Certificate(), Name: p.Name, Index: 1,
				Listen: p.Listen, Outer: p.Outer, Other: p.Other, InsideIf: p.InsideIf, Inside: p.Inside,
				Capacity: p.Capacity, TUN: p.TUN, Pool: config.Pool, Egress: config.Egress, Founder: true,
				Userspace: p.Userspace,
			})
		},
	} {
		if err := save(); err != nil {
			return err
		}
	}
	return nil
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
		DNS: config.DNS, Search: config.Search, Sessions: FirstSessions}
	f.Policy.HandOn, f.Policy.Direct = config.HandOn, config.Direct
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
		Is: dataRoles | registry.RoleVoter, Outer: p.Outer, Other: p.Other, Inside: p.Inside, Capacity: p.Capacity, Exposed: p.Exposed,
	}
	return f, errors.Join(errs[:]...)
}

// defaultPool is for an operator without an opinion: an IPv4 network that is
// seldom used, and where this host has IPv6 a network of this mesh's own
// (RFC 4193, its global id from the cluster's).
func defaultPool(cluster identity.ClusterID, ipv6 bool) []netip.Prefix {
	pool := []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}
	if ipv6 {
		own := [16]byte{0: 0xfd, 7: 0x77}
		copy(own[1:6], cluster[:])
		pool = append(pool, netip.PrefixFrom(netip.AddrFrom16(own), 64))
	}
	return pool
}

// cutPool makes one part for each moving inside address, with a piece of every
// family of the pool; without moving addresses each prefix is a part and its
// routes are made by hand.
func cutPool(pool []netip.Prefix, moving []netip.Addr) ([]registry.Part, error) {
	var families [2][]registry.Range // that of the pool's first prefix leads
	count := max(1, len(sameFamily(moving, pool[0].Addr())), len(moving)-len(sameFamily(moving, pool[0].Addr())))
	for _, prefix := range pool {
		pieces, err := cutPrefix(prefix, count, sameFamily(moving, prefix.Addr()))
		if err != nil {
			return nil, err
		}
		family := 0
		if prefix.Addr().BitLen() != pool[0].Addr().BitLen() {
			family = 1
		}
		families[family] = append(families[family], pieces...)
	}
	return joinFamilies(families[0], families[1], moving)
}

// joinFamilies pairs the pieces of both families, if there are two.
func joinFamilies(first, other []registry.Range, moving []netip.Addr) (parts []registry.Part, err error) {
	if len(other) > 0 && len(other) != len(first) {
		return nil, errors.New("a pool of both families needs as many IPv6 prefixes as IPv4 ones (--pool 10.77.0.0/16,fd77::/64)")
	}
	named := 0
	for i, r := range first {
		part := registry.Part{Prefix: r.Prefix, Inside: r.Inside, Epoch: 1}
		if len(other) > 0 {
			part.Other = other[i]
		}
		parts = append(parts, part)
		named += len(part.Insides())
	}
	if named < len(moving) {
		return nil, errors.New("an inside address is of a family that the pool does not have (--pool 10.77.0.0/16,fd77::/64)")
	}
	return parts, nil
}

// cutPrefix gives each moving address a piece; the others are routed by hand.
func cutPrefix(prefix netip.Prefix, count int, moving []netip.Addr) (pieces []registry.Range, err error) {
	bits := 0
	for 1<<bits < count {
		bits++
	}
	if prefix.Masked() != prefix {
		return nil, fmt.Errorf("pool %s has host bits set (--pool %s)", prefix, prefix.Masked())
	}
	if prefix.Bits()+bits > prefix.Addr().BitLen()-4 {
		return nil, fmt.Errorf("pool %s is too small for %d parts", prefix, count)
	}
	if len(moving) > 0 && len(moving) != count {
		return nil, fmt.Errorf("%d parts of the pool need as many inside addresses in each family that has any", count)
	}
	addr := prefix.Addr()
	for i := range count {
		piece := registry.Range{Prefix: netip.PrefixFrom(addr, prefix.Bits()+bits)}
		if i < len(moving) {
			piece.Inside = moving[i]
		}
		pieces = append(pieces, piece)
		addr = lastOf(piece.Prefix).Next()
	}
	return pieces, nil
}

func sameFamily(all []netip.Addr, as netip.Addr) (same []netip.Addr) {
	for _, a := range all {
		if a.BitLen() == as.BitLen() {
			same = append(same, a)
		}
	}
	return same
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
