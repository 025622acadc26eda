package registry

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func TestFound(t *testing.T) {
	f := newFixture(t)
	n := f.s.Nodes[node(0)]
	if n == nil || n.Index != 1 || n.Is != anyRoles || f.s.Cluster.Incarnation != 1 || f.s.DataKey != 1 {
		t.Fatalf("founder %+v, cluster %+v", n, f.s.Cluster)
	}
	if p := f.s.Parts[0]; p.Egress != node(0) || p.Epoch != 1 {
		t.Fatalf("part %+v", p)
	}
	f.refuse(ErrFounded, Command{Found: founding()})
}

func TestNothingBeforeFound(t *testing.T) {
	f := &fixture{t: t, s: New(), term: 1}
	f.refuse(ErrNotFound, Command{AdvanceTick: &AdvanceTick{Elapsed: 1}})
	broken := map[string]func(*Found){
		"no id":           func(c *Found) { c.Cluster.ID = identity.ClusterID{} },
		"no ca":           func(c *Found) { c.Cluster.CA = nil },
		"no pool":         func(c *Found) { c.Cluster.Pool = nil },
		"tiny pool":       func(c *Found) { c.Cluster.Pool[0], c.Parts = prefix("10.80.0.0/28"), nil },
		"unmasked pool":   func(c *Found) { c.Cluster.Pool[0] = prefix("10.80.0.1/24") },
		"egress":          func(c *Found) { c.Cluster.Egress = EgressLocal },
		"no parts":        func(c *Found) { c.Parts = nil },
		"part outside":    func(c *Found) { c.Parts[0].Prefix = prefix("10.81.0.0/25") },
		"parts overlap":   func(c *Found) { c.Parts[1].Prefix = testPartA },
		"founder no vote": func(c *Found) { c.Founder.May = RoleAgent },
		"founder's roles": func(c *Found) { c.Founder.May = ^Roles(0) }, // some that there are not
		"founder name":    func(c *Found) { c.Founder.Name = "a b" },
		"policy":          func(c *Found) { c.Policy.Headless = MaxHeadless + 1 },
		"secret":          func(c *Found) { c.Secrets["x y"] = Sealed{Generation: 1} },
	}
	for name, breakIt := range broken {
		t.Run(name, func(t *testing.T) {
			c := founding()
			breakIt(c)
			f.t = t
			f.refuse(ErrInvalid, Command{Found: c})
		})
	}
}

func TestJoinBurnsOncePerKey(t *testing.T) {
	f := newFixture(t)
	f.must(Command{CreateToken: &CreateToken{Token: Token{
		ID: "one", Verify: []byte("v"), May: RoleAgent, Uses: 1, Expires: 60}}})
	join := func(n int) Command {
		return Command{JoinNode: &JoinNode{Token: "one", Node: Node{Key: key(n), Name: "same"}}}
	}
	if r := f.must(join(1)); r.Node != node(1) || f.s.Nodes[node(1)].Index != 2 {
		t.Fatalf("joined as %+v", r)
	}
	f.refuse(ErrToken, join(2))
	f.wait(60)
	f.must(join(1)) // a retry after the burn succeeds, even when the token has run out
	if got := len(f.s.Members()); got != 2 {
		t.Fatalf("%d members", got)
	}
	f.must(Command{RevokeToken: &RevokeToken{ID: "one"}})
	f.refuse(ErrToken, join(1))
	f.refuse(ErrExists, Command{JoinNode: &JoinNode{Token: "tok", Node: Node{Key: key(1)}}})
}

func TestJoinRefusals(t *testing.T) {
	f := newFixture(t)
	f.must(Command{CreateToken: &CreateToken{Token: Token{
		ID: "agents", Verify: []byte("v"), May: RoleAgent, Uses: 3, Expires: 60}}})
	with := func(token string, n Node) Command { return Command{JoinNode: &JoinNode{Token: token, Node: n}} }
	f.refuse(ErrToken, with("none", Node{Key: key(1)}))
	f.refuse(ErrToken, with("agents", Node{Key: key(1), May: RoleVoter}))
	f.refuse(ErrInvalid, with("agents", Node{Key: key(1), Name: "a\nb"}))
	f.refuse(ErrInvalid, with("agents", Node{}))
	f.wait(60)
	f.refuse(ErrToken, with("agents", Node{Key: key(1)}))
	f.must(Command{RemoveNode: &RemoveNode{ID: f.join(1).ID}})
	f.refuse(ErrRevoked, with("tok", Node{Key: key(1)}))
}

func TestTwoHostsOfOneName(t *testing.T) {
	f := newFixture(t)
	for n := 1; n <= 2; n++ {
		f.must(Command{JoinNode: &JoinNode{Token: "tok", Node: Node{Key: key(n), Name: "n0"}}})
	}
	if a, b := f.s.Nodes[node(1)].Name, f.s.Nodes[node(2)].Name; a != "n0-2" || b != "n0-3" {
		t.Fatalf("names %q, %q", a, b)
	}
}

func TestRolesNeverExceedMay(t *testing.T) {
	f := newFixture(t)
	f.must(Command{CreateToken: &CreateToken{Token: Token{
		ID: "agents", Verify: []byte("v"), May: RoleAgent, Uses: 3, Expires: 60}}})
	f.must(Command{JoinNode: &JoinNode{Token: "agents", Node: Node{Key: key(1)}}})
	if f.s.Nodes[node(1)].Is != 0 {
		t.Fatal("a joiner is something before the arbiter says so")
	}
	f.refuse(ErrInvalid, Command{SetRoles: &SetRoles{ID: node(1), Is: RoleAgent | RoleVoter}})
	f.refuse(ErrNotFound, Command{SetRoles: &SetRoles{ID: node(7), Is: RoleAgent}})
	f.must(Command{SetRoles: &SetRoles{ID: node(1), Is: RoleAgent}})
}

// I13: an index comes back only headless + 60 s after its node was removed.
func TestIndexIsHeld(t *testing.T) {
	f := newFixture(t)
	first := f.join(1)
	f.must(Command{RemoveNode: &RemoveNode{ID: first.ID}})
	if hold := f.s.Indexes[2]; hold.Node != first.ID || hold.Free == 0 {
		t.Fatalf("the index of a removed node is %+v", hold)
	}
	if got := f.join(2).Index; got != 3 {
		t.Fatalf("index %d while 2 is held", got)
	}
	f.wait(159)
	if got := f.join(3).Index; got != 4 {
		t.Fatalf("index %d one second early", got)
	}
	f.wait(1)
	if got := f.join(4).Index; got != 2 {
		t.Fatalf("index %d, 2 is free", got)
	}
}

// I13: lowering headless does not shorten what a node out of reach may still do.
func TestHoldOutlivesReplacedPolicy(t *testing.T) {
	f := newFixture(t)
	f.must(Command{PutPolicy: &PutPolicy{Policy: Policy{Headless: 10}}})
	f.join(1)
	f.must(Command{RemoveNode: &RemoveNode{ID: node(1)}})
	if got := f.s.Indexes[2].Free; got != 160 {
		t.Fatalf("free at %d: by the new policy only", got)
	}
	f.wait(1000)
	f.join(2)
	f.must(Command{RemoveNode: &RemoveNode{ID: node(2)}})
	if got := f.s.Indexes[2].Free; got != 1000+10+60 {
		t.Fatalf("free at %d: the old policy is long gone", got)
	}
}

func TestRemoveNodeVoidsAndWithdraws(t *testing.T) {
	f := newFixture(t)
	f.join(1)
	f.join(2)
	f.client("alice")
	f.must(Command{PutSecrets: &PutSecrets{Generation: 1, Wraps: map[string][]byte{node(1).String(): hash}}})
	f.must(Command{MovePart: &MovePart{Prefix: testPartA, Epoch: 1, Egress: node(1), Second: node(2)}})
	f.must(Command{OpenSession: f.opening(1, "alice", f.slice(0, 1), f.slice(1, 2))})
	next := f.slice(1, 1)
	next.Epoch = 2
	f.must(Command{GrantSlice: &GrantSlice{Session: session(1), Slice: next, Retire: true}})
	f.must(Command{RemoveNode: &RemoveNode{ID: node(1)}})
	ses := f.s.Sessions.Get(session(1))
	if ses.Slices[0].State != SliceVoid || ses.Slices[1].State != SliceVoid || len(ses.Retiring) != 1 {
		t.Fatalf("slices %+v retiring %+v", ses.Slices, ses.Retiring)
	}
	if p := f.s.Parts[0]; p.Egress != node(2) || !p.Second.IsZero() || p.Epoch != 3 || ses.Egress != node(2) {
		t.Fatalf("part %+v, session egress %s", p, ses.Egress.Short())
	}
	if _, ok := f.s.Wraps[node(1).String()]; ok {
		t.Fatal("the wrap stayed")
	}
	f.refuse(ErrRevoked, Command{RemoveNode: &RemoveNode{ID: node(1)}})
	f.refuse(ErrRevoked, Command{UpdateNode: &UpdateNode{ID: node(1)}})
}

func TestNodeLimits(t *testing.T) { // I10
	f := newFixture(t)
	for i := identity.Index(2); i <= identity.MaxIndex; i++ {
		f.s.Indexes[i] = IndexHold{Node: node(int(i))}
	}
	f.refuse(ErrExhausted, Command{JoinNode: &JoinNode{Token: "tok", Node: Node{Key: key(1)}}})
	delete(f.s.Indexes, identity.MaxIndex)
	f.join(1)
	for i := range MaxRemoved {
		f.s.Nodes[node(100+i)] = &Node{ID: node(100 + i), Removed: true, RemovedAt: Tick(i)}
	}
	f.must(Command{RemoveNode: &RemoveNode{ID: node(1)}})
	if _, ok := f.s.Nodes[node(100)]; ok || len(f.s.Nodes) != MaxRemoved+1 {
		t.Fatalf("%d nodes, the oldest removed one is still there: %v", len(f.s.Nodes), ok)
	}
}

func TestTokenLimits(t *testing.T) { // I10
	f := newFixture(t)
	good := Token{ID: "t", Verify: []byte("v"), May: RoleAgent, Uses: 1, Expires: 1}
	for name, breakIt := range map[string]func(*Token){
		"id":     func(t *Token) { t.ID = "" },
		"verify": func(t *Token) { t.Verify = nil },
		"may":    func(t *Token) { t.May = 0 },
		"roles":  func(t *Token) { t.May = 128 },
		"uses":   func(t *Token) { t.Uses = MaxUses + 1 },
		"life":   func(t *Token) { t.Expires = MaxTokenLife + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			bad := good
			breakIt(&bad)
			f.t = t
			f.refuse(ErrInvalid, Command{CreateToken: &CreateToken{Token: bad}})
		})
	}
	f.t = t
	for i := len(f.s.Tokens); i < MaxTokens; i++ {
		f.s.Tokens[fmt.Sprintf("x%d", i)] = &Token{Burned: map[identity.NodeID]identity.PublicKey{}}
	}
	f.refuse(ErrExhausted, Command{CreateToken: &CreateToken{Token: good}})
	f.wait(EndedKept) // spent tokens age out
	f.must(Command{CreateToken: &CreateToken{Token: good}})
	f.refuse(ErrExists, Command{CreateToken: &CreateToken{Token: good}})
	f.refuse(ErrNotFound, Command{RevokeToken: &RevokeToken{ID: "nope"}})
}

func TestReincarnate(t *testing.T) {
	f := newFixture(t)
	f.refuse(ErrStale, Command{Reincarnate: &Reincarnate{Incarnation: 1}})
	f.must(Command{Reincarnate: &Reincarnate{Incarnation: 5}})
	f.refuse(ErrStale, Command{Reincarnate: &Reincarnate{Incarnation: 5}})
	f.refuse(ErrToken, Command{JoinNode: &JoinNode{Token: "tok", Node: Node{Key: key(1)}}})
}

func TestNetworksOfANode(t *testing.T) { // I10
	f := newFixture(t)
	put := func(all ...netip.Prefix) Command {
		return Command{UpdateNode: &UpdateNode{ID: node(0), Networks: all}}
	}
	var full []netip.Prefix
	for i := range MaxNetworks {
		full = append(full, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 0}), 24))
	}
	f.must(put(full...))
	f.refuse(ErrInvalid, put(append(full, netip.MustParsePrefix("10.1.0.0/24"))...))
	f.refuse(ErrInvalid, put(netip.Prefix{}))
	f.refuse(ErrInvalid, put(netip.MustParsePrefix("10.0.0.7/24")))
	n := f.s.Nodes[node(0)]
	for text, want := range map[string]bool{"10.0.3.9": true, "10.20.0.1": false, "fd20::1": true} { // nothing is known of IPv6
		if n.Attached(netip.MustParseAddr(text)) != want {
			t.Errorf("attached to the network of %s: %v", text, !want)
		}
	}
	f.must(put())
	if n := f.s.Nodes[node(0)]; !n.Attached(netip.MustParseAddr("10.20.0.1")) {
		t.Error("a node that tells nothing is believed to be nowhere")
	}
}
