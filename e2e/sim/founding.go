package sim

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/trust"
)

// Ports of every node.
const (
	outerPort  = 6484
	insidePort = 6486
)

// mesh is what was founded: who there is, and what the log begins with.
type mesh struct {
	authority *pki.Authority
	members   []*member
	visitors  []*visitor
	passer    *visitor // comes and goes meanwhile
	guest     *visitor // comes when all is over
	commands  []registry.Command
}

func (w *World) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// found makes a mesh of nodes, all of them equal, and of clients that it knows.
func (w *World) found(nodes, clients int) {
	own := (&host{number: 250}).start(w)
	random := own.newSource("found")
	cluster := identity.ClusterID{1, 2}
	m := &mesh{}
	w.mesh = m
	var err error
	m.authority, err = pki.NewAuthority(random, cluster, own.wall())
	w.ok(err)
	for i := range nodes {
		m.members = append(m.members, w.newMember(i, random))
	}
	m.commands = append(m.commands, registry.Command{Found: w.foundation(random)})
	m.commands = append(m.commands, registry.Command{CreateToken: &registry.CreateToken{Token: registry.Token{
		ID: "t", Verify: []byte("v"), May: allRoles, Uses: nodes, Expires: 1000}}})
	for _, n := range m.members[1:] {
		m.commands = append(m.commands, registry.Command{JoinNode: &registry.JoinNode{Token: "t", Node: n.row()}})
	}
	for i := range clients + 2 {
		v := w.newVisitor(i, random)
		m.visitors = append(m.visitors, v)
		m.commands = append(m.commands, v.account())
	}
	m.passer, m.guest = m.visitors[clients+1], m.visitors[clients]
	m.visitors = m.visitors[:clients]
	w.cluster, w.watch = w.newCluster(), newWatch(w)
	for i := range m.commands {
		m.commands[i].ID = registry.CommandID{byte(i + 1)}
	}
}

const allRoles = registry.RoleVoter | registry.RoleGateway | registry.RoleAgent

var pool = netip.MustParsePrefix("10.77.0.0/27")

// parts are those of the pool, each with its moving address: of six leases, so that they
// are given anew within a run.
var parts = []registry.Part{
	{Prefix: netip.MustParsePrefix("10.77.0.16/29"), Inside: netip.MustParseAddr("10.0.0.200"), Epoch: 1},
	{Prefix: netip.MustParsePrefix("10.77.0.24/29"), Inside: netip.MustParseAddr("10.0.0.201"), Epoch: 1},
}

func (w *World) foundation(random *source) *registry.Found {
	m := w.mesh
	data, err := vault.NewDataKey(random, 1)
	w.ok(err)
	recovery, err := vault.NewRecipient(random)
	w.ok(err)
	id := m.authority.Cluster()
	secrets := make(map[string]registry.Sealed)
	for name, secret := range map[string][]byte{arbiter.SecretCA: m.authority.Seed(), arbiter.SecretGossip: make([]byte, 32)} {
		box, err := data.Seal(random, id, name, secret)
		w.ok(err)
		secrets[name] = registry.Sealed{Generation: 1, Box: box}
	}
	wraps := make(map[string][]byte)
	for _, n := range m.members {
		wraps[n.key.ID().String()], err = vault.Wrap(data, n.wrap.Public(), id)
		w.ok(err)
	}
	wraps[registry.RecoveryWrap], err = vault.Wrap(data, recovery.Public(), id)
	w.ok(err)
	return &registry.Found{
		Cluster: registry.Cluster{ID: id, Incarnation: 1, CA: m.authority.Certificate(), Pool: []netip.Prefix{pool},
			Egress: registry.EgressRouted, Recovery: recovery.Public()},
		Policy: registry.Policy{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}, Slices: 2, Headless: w.headless},
		Parts:  slices.Clone(parts), Secrets: secrets, Wraps: wraps, Founder: m.members[0].row(),
	}
}

// newMember is a node that has not started.
func (w *World) newMember(i int, random *source) *member {
	h := &host{name: fmt.Sprintf("n%d", i+1), number: i + 1, outer: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), inside: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})}
	n := &member{host: h, world: w, index: identity.Index(i + 1)}
	var err error
	n.key, err = identity.NewKey(random)
	w.ok(err)
	n.wrap, err = vault.NewRecipient(random)
	w.ok(err)
	w.net.hosts[h.outer], w.net.hosts[h.inside] = h, h
	return n
}

// row is the node as it joins.
func (n *member) row() registry.Node {
	return registry.Node{
		ID: n.key.ID(), Key: n.key.Public(), WrapKey: n.wrap.Public(), Name: n.name, May: allRoles,
		Outer: n.at(), Inside: n.inside, Capacity: 1000, Mbit: 1000,
	}
}

// at is where the node is reached.
func (n *member) at() netip.AddrPort { return netip.AddrPortFrom(n.outer, outerPort) }

// newTrust is what its disk holds of its own.
func (n *member) newTrust(p *process) *trust.Trust {
	authority := n.world.mesh.authority
	certificate, err := authority.IssueNode(pki.MakeRequest(n.key), allRoles.Names(), n.world.began)
	n.world.ok(err)
	t, err := trust.New(trust.Config{
		Cluster: authority.Cluster(), CA: authority.Certificate(), Certificate: certificate,
		Identity: n.key.Seed(), Wrap: n.wrap.Seed(), Save: func([]byte) error { return nil }, Wall: p.wall,
	})
	n.world.ok(err)
	return t
}

// account is how somebody is known.
func (v *visitor) account() registry.Command {
	return registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: v.name, PasswordKey: v.key.Public()}}}
}

// newVisitor is a client that has not started.
func (w *World) newVisitor(i int, random *source) *visitor {
	h := &host{name: fmt.Sprintf("c%d", i+1), number: 101 + i, outer: netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})}
	key, err := identity.NewKey(random)
	w.ok(err)
	w.net.hosts[h.outer] = h
	v := &visitor{host: h, world: w, key: key}
	_, _ = random.Read(v.device[:])
	return v
}
