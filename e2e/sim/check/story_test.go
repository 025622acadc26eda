package check

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// story is a small history, told to a judge: three nodes, two clients.
type story struct {
	*Judge
	t     *testing.T
	now   time.Duration
	index uint64
	term  uint64
	spi   uint32
}

const second = time.Second

var (
	pool  = netip.MustParsePrefix("10.80.0.0/27")
	hash  = make([]byte, 32)
	roles = registry.RoleVoter | registry.RoleGateway | registry.RoleAgent
)

func key(n int) (k identity.PublicKey) {
	k[0] = byte(n + 1)
	return k
}

func node(n int) identity.NodeID { return key(n).ID() }

func sessionID(n int) registry.SessionID { return registry.SessionID{byte(n + 1)} }

func begin(t *testing.T) *story {
	names := make(map[identity.NodeID]string)
	for i := range 3 {
		names[node(i)] = fmt.Sprintf("n%d", i+1)
	}
	s := &story{Judge: New(Config{Names: names, Quorum: true}), t: t, term: 2}
	s.commit(registry.Command{Found: &registry.Found{
		Cluster: registry.Cluster{ID: identity.ClusterID{1}, CA: []byte("ca"), Pool: []netip.Prefix{pool}, Egress: registry.EgressRouted},
		Policy:  registry.Policy{Headless: 100}, Parts: []registry.Part{{Prefix: pool, Inside: netip.MustParseAddr("10.0.0.201")}},
		Founder: registry.Node{Key: key(0), Name: "n1", May: roles, Is: roles},
		Secrets: map[string]registry.Sealed{"gossip": {Generation: 1, Box: []byte("box")}},
		Wraps:   map[string][]byte{registry.RecoveryWrap: []byte("wrap"), node(0).String(): []byte("wrap")},
	}})
	s.commit(registry.Command{CreateToken: &registry.CreateToken{Token: registry.Token{ID: "t", Verify: []byte("v"), May: roles, Uses: 3, Expires: 100}}})
	for i := 1; i < 3; i++ {
		s.commit(registry.Command{JoinNode: &registry.JoinNode{Token: "t", Node: registry.Node{Key: key(i), Name: names[node(i)]}}})
		s.commit(registry.Command{SetRoles: &registry.SetRoles{ID: node(i), Is: registry.RoleAgent}})
	}
	for _, name := range []string{"alice", "bob"} {
		s.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: name, PasswordKey: key(9)}}})
	}
	return s
}

// commit is an entry that the first node applies; it must not be refused.
func (s *story) commit(c registry.Command) {
	s.t.Helper()
	s.index++
	binary.BigEndian.PutUint64(c.ID[:], s.index)
	raw, err := registry.EncodeCommand(c)
	if err != nil {
		s.t.Fatal(err)
	}
	dry := s.Registry().Clone()
	if err := registry.Apply(dry, s.index, s.term, c).Err(); err != nil {
		s.t.Fatalf("the story makes no sense at entry %d: %v", s.index, err)
	}
	s.Entry(s.now, node(0), s.index, s.term, raw)
}

func (s *story) slice(agent int) registry.Slice {
	s.spi++
	index := uint32(s.Registry().Nodes[node(agent)].Index)
	return registry.Slice{Suite: 1, Agent: node(agent), Boot: identity.BootID{byte(agent + 1)}, Weight: 1, SPI: index<<20 | s.spi}
}

func (s *story) numbered(number uint8, agent int) registry.Slice {
	sl := s.slice(agent)
	sl.Number = number
	return sl
}

// open admits a session of a client's only device, with one slice.
func (s *story) open(n int, client string, agent int) {
	s.t.Helper()
	s.openOn(n, client, client[0], agent)
}

func (s *story) openOn(n int, client string, device byte, agent int) {
	s.t.Helper()
	s.commit(registry.Command{OpenSession: &registry.OpenSession{
		Session: registry.Session{ID: sessionID(n), Client: client, Device: registry.DeviceID{device}, Request: registry.RequestID{byte(n + 1)},
			Key: key(20 + n), Identity: hash, Hello: hash},
		Part: pool, Slices: []registry.Slice{s.slice(agent)}, Track: true,
	}})
}

func (s *story) up(n int) {
	s.t.Helper()
	s.commit(registry.Command{MarkSlice: &registry.MarkSlice{Session: sessionID(n), Epoch: 1, State: registry.SliceUp}})
}

func (s *story) end(n int, reason string) {
	s.t.Helper()
	s.commit(registry.Command{EndSession: &registry.EndSession{Session: sessionID(n), Reason: reason}})
}

// has is a holding as the registry has it.
func (s *story) has(n int, epoch uint32) Holding {
	ses := s.Registry().Sessions.Get(sessionID(n))
	return Holding{Session: sessionID(n), Epoch: epoch, Fence: protocol.Fence{Term: s.term}, Leases: ses.Leases}
}

// numberedHas is a holding of another slice of the first session.
func (s *story) numberedHas(number uint8) Holding {
	h := s.has(1, 1)
	h.Number = number
	return h
}

func table(agent int, holdings ...Holding) Table {
	return Table{Agent: node(agent), Boot: identity.BootID{byte(agent + 1)}, Holdings: holdings}
}

// green holds that nothing was found.
func (s *story) green() {
	s.t.Helper()
	for _, v := range s.Violations() {
		s.t.Errorf("found in a right history: %v", v)
	}
}

// red holds that a rule was found broken, at a time, in these words.
func (s *story) red(rule string, at time.Duration, words ...string) {
	s.t.Helper()
	for _, v := range s.Violations() {
		found := v.Rule == rule && v.At == at
		for _, word := range words {
			found = found && strings.Contains(v.What, word)
		}
		if found {
			return
		}
	}
	s.t.Errorf("not found: %s at %v with %q, but %v", rule, at, words, s.Violations())
}
