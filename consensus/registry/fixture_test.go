package registry

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// fixture drives one registry: it numbers commands and entries.
type fixture struct {
	t     testing.TB
	s     *State
	index uint64
	term  uint64
	spi   uint32
}

var (
	testPool  = netip.MustParsePrefix("10.80.0.0/24")
	testPartA = netip.MustParsePrefix("10.80.0.0/25")
	testPartB = netip.MustParsePrefix("10.80.0.128/25")
	anyRoles  = RoleVoter | RoleGateway | RoleAgent
	hash      = make([]byte, 32)
)

func key(n int) (p identity.PublicKey) {
	binary.BigEndian.PutUint64(p[:], uint64(n)+1)
	return p
}

func node(n int) identity.NodeID { return key(n).ID() }

func boot(n int) (b identity.BootID) {
	binary.BigEndian.PutUint64(b[:], uint64(n)+1)
	return b
}

func session(n int) (id SessionID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)+1)
	return id
}

func request(n int) (id RequestID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)+1)
	return id
}

// founding is a mesh with node 0 as its founder and two parts of one pool.
func founding() *Found {
	return &Found{
		Cluster: Cluster{
			ID: identity.ClusterID{1}, CA: []byte("ca"), Pool: []netip.Prefix{testPool}, Egress: EgressMasquerade,
		},
		Policy:  Policy{Headless: 100},
		Parts:   []Part{{Prefix: testPartA}, {Prefix: testPartB}},
		Founder: Node{Key: key(0), Name: "n0", May: anyRoles, Is: anyRoles},
		Secrets: map[string]Sealed{"gossip": {Generation: 1, Box: []byte("box")}},
		Wraps:   map[string][]byte{RecoveryWrap: []byte("wrap"), node(0).String(): []byte("wrap")},
	}
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{t: t, s: New(), term: 1}
	f.must(Command{Found: founding()})
	f.must(Command{CreateToken: &CreateToken{Token: Token{
		ID: "tok", Verify: []byte("v"), May: anyRoles, Uses: MaxUses, Expires: MaxTokenLife}}})
	return f
}

// apply gives the command a fresh id and the next index.
func (f *fixture) apply(c Command) Result {
	f.index++
	binary.BigEndian.PutUint64(c.ID[:], f.index)
	return Apply(f.s, f.index, f.term, c)
}

func (f *fixture) must(c Command) Result {
	f.t.Helper()
	r := f.apply(c)
	if err := r.Err(); err != nil {
		f.t.Fatalf("entry %d: %v", f.index, err)
	}
	return r
}

// refuse expects the error, and that the refused command left nothing behind.
func (f *fixture) refuse(want *Error, c Command) {
	f.t.Helper()
	before := image(f.t, f.s)
	if err := f.apply(c).Err(); !errors.Is(err, want) {
		f.t.Fatalf("entry %d: got %v, want %s", f.index, err, want.Code)
	}
	if after := image(f.t, f.s); after != before {
		f.t.Fatalf("entry %d: a refused command changed the state%s", f.index, difference(before, after))
	}
}

// difference shows where two images part.
func difference(a, b string) string {
	at := 0
	for at < min(len(a), len(b)) && a[at] == b[at] {
		at++
	}
	window := func(s string) string { return s[max(0, min(at-100, len(s))):min(at+200, len(s))] }
	return fmt.Sprintf(" at byte %d:\n%s\n%s", at, window(a), window(b))
}

// deny is refuse for states that are too large to compare.
func (f *fixture) deny(want *Error, c Command) {
	f.t.Helper()
	if err := f.apply(c).Err(); !errors.Is(err, want) {
		f.t.Fatalf("entry %d: got %v, want %s", f.index, err, want.Code)
	}
}

// image is the state as text, without what every entry changes.
func image(t testing.TB, s *State) string {
	t.Helper()
	bare := *s
	bare.Index, bare.Term, bare.applied = 0, 0, newApplied()
	raw, err := json.Marshal(&bare)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// join adds node n as an active agent and gateway.
func (f *fixture) join(n int) *Node {
	f.t.Helper()
	f.must(Command{JoinNode: &JoinNode{Token: "tok", Node: Node{Key: key(n), Name: fmt.Sprintf("n%d", n)}}})
	f.must(Command{SetRoles: &SetRoles{ID: node(n), Is: RoleAgent | RoleGateway}})
	return f.s.Nodes[node(n)]
}

func (f *fixture) client(name string) {
	f.t.Helper()
	f.must(Command{PutClient: &PutClient{Client: Client{Name: name, PasswordKey: key(99)}}})
}

// slice is a grantable slice of node n at its first boot.
func (f *fixture) slice(number uint8, n int) Slice {
	f.spi++
	return Slice{
		Number: number, Suite: 1, Agent: node(n), Boot: boot(n), Weight: 1,
		SPI: uint32(f.s.Nodes[node(n)].Index)<<indexShift | f.spi,
	}
}

func (f *fixture) opening(n int, client string, slices ...Slice) *OpenSession {
	return &OpenSession{
		Session: Session{
			ID: session(n), Client: client, Request: request(n), Key: key(1000 + n), Identity: hash, Hello: hash,
		},
		Part: testPartA, Slices: slices,
	}
}

func device(n int) (id DeviceID) {
	binary.BigEndian.PutUint64(id[:], uint64(n))
	return id
}

// tracked makes an opening one of a device, 0 for none, whose agents are recorded.
func tracked(c *OpenSession, n int) *OpenSession {
	c.Track, c.Session.Device = true, device(n)
	return c
}

// open admits session n with one slice on node 0.
func (f *fixture) open(n int, client string) *Session {
	f.t.Helper()
	f.must(Command{OpenSession: f.opening(n, client, f.slice(0, 0))})
	return f.s.Sessions.Get(session(n))
}

func (f *fixture) end(n int) {
	f.t.Helper()
	f.must(Command{EndSession: &EndSession{Session: session(n), Reason: "client", Bytes: 7}})
}

func (f *fixture) wait(seconds uint64) {
	f.t.Helper()
	for seconds > 0 {
		step := min(seconds, MaxElapsed)
		f.must(Command{AdvanceTick: &AdvanceTick{Elapsed: step}})
		seconds -= step
	}
}
