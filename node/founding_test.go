package node

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/trust"
)

func prefixes(text ...string) (all []netip.Prefix) {
	for _, t := range text {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

func addrs(text ...string) (all []netip.Addr) {
	for _, t := range text {
		all = append(all, netip.MustParseAddr(t))
	}
	return all
}

func TestCutPool(t *testing.T) {
	for _, c := range []struct {
		name   string
		pool   []netip.Prefix
		moving []netip.Addr
		parts  string // prefix=inside; a "!" begins what the error must say
	}{
		{"one part, routes by hand", prefixes("10.77.0.0/16"), nil, "10.77.0.0/16=invalid IP"},
		{"one moving address", prefixes("10.77.0.0/16"), addrs("10.0.0.9"), "10.77.0.0/16=10.0.0.9"},
		{"three take a quarter each", prefixes("10.77.0.0/16"), addrs("10.0.0.7", "10.0.0.8", "10.0.0.9"),
			"10.77.0.0/18=10.0.0.7 10.77.64.0/18=10.0.0.8 10.77.128.0/18=10.0.0.9"},
		{"both families", prefixes("10.77.0.0/16", "fd00::/64"), addrs("10.0.0.9"), "10.77.0.0/16=10.0.0.9+fd00::/64=invalid IP"},
		{"an address of each family for each part", prefixes("fd00::/64", "10.77.0.0/16"), addrs("fd20::8", "10.0.0.8", "10.0.0.9", "fd20::9"),
			"fd00::/65=fd20::8+10.77.0.0/17=10.0.0.8 fd00::8000:0:0:0/65=fd20::9+10.77.128.0/17=10.0.0.9"},
		{"fewer of one family", prefixes("10.77.0.0/16", "fd00::/64"), addrs("10.0.0.8", "10.0.0.9", "fd20::9"), "!inside addresses in each family"},
		{"address of no family", prefixes("10.77.0.0/16"), addrs("10.0.0.9", "fd20::9"), "!--pool"},
		{"more of one family", prefixes("10.77.0.0/16", "10.78.0.0/16", "fd00::/64"), nil, "!as many IPv6 prefixes"},
		{"host bits", prefixes("10.77.0.1/16"), nil, "!--pool 10.77.0.0/16"},
		{"too small", prefixes("10.77.0.0/27"), addrs("10.0.0.7", "10.0.0.8", "10.0.0.9"), "!too small"},
	} {
		parts, err := cutPool(c.pool, c.moving)
		var got []string
		for _, p := range parts {
			var ranges []string
			for _, r := range p.Ranges() {
				ranges = append(ranges, r.Prefix.String()+"="+r.Inside.String())
			}
			got = append(got, strings.Join(ranges, "+"))
		}
		if want, fails := strings.CutPrefix(c.parts, "!"); fails {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, %v", c.name, got, err)
			}
		} else if err != nil || strings.Join(got, " ") != c.parts {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}

// TestFoundRefuses what could not run, and leaves the directory as it was.
func TestFoundRefuses(t *testing.T) {
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	config := FoundConfig{
		Place: Place{Name: "n1", Outer: netip.MustParseAddrPort("192.0.2.1:6484"), Inside: netip.MustParseAddr("10.0.0.1")},
		Pool:  prefixes("10.77.0.0/16"), Egress: registry.EgressRouted,
	}
	for name, edit := range map[string]func(*FoundConfig){
		"a pool without room":    func(c *FoundConfig) { c.Pool = prefixes("10.77.0.0/28") },
		"pools that overlap":     func(c *FoundConfig) { c.Pool = prefixes("10.77.0.0/16", "10.77.1.0/24") },
		"an egress of no kind":   func(c *FoundConfig) { c.Egress = "both" },
		"a name that is no name": func(c *FoundConfig) { c.Place.Name = strings.Repeat("n", registry.MaxName+1) },
	} {
		bad := config
		edit(&bad)
		if _, err := Found(dir, bad, time.Now()); err == nil || dir.HasNode() {
			t.Errorf("%s: %v, founded: %v", name, err, dir.HasNode())
		}
	}
	// Where one file cannot be written, nothing looks like a node.
	if err := os.Mkdir(dir.Path("founding.json"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Found(dir, config, time.Now()); err == nil || strings.Contains(err.Error(), "\n") || dir.HasNode() {
		t.Errorf("half a mesh was founded: %v", err)
	}
	if err := os.Remove(dir.Path("founding.json")); err != nil {
		t.Fatal(err)
	}
	founded, err := Found(dir, config, time.Now())
	if err != nil || founded.Recovery == "" {
		t.Fatal(err)
	}
	token, err := pki.ParseToken(founded.Token)
	if err != nil || token.CAHash != founded.CAHash {
		t.Errorf("the token does not pin the CA: %v", err)
	}
	if _, err := Found(dir, config, time.Now()); !errors.Is(err, datadir.ErrState) {
		t.Errorf("founded twice: %v", err)
	}
}

// TestJoinRefuses: each with its own error, and nothing but keys is kept.
func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	good, err := pki.ParseToken(w.founded.Token)
	w.ok(err)
	wrong, _, err := pki.NewToken(rand.Reader, w.founded.CAHash)
	w.ok(err)
	foreign, _, err := pki.NewToken(rand.Reader, [32]byte{1})
	w.ok(err)
	peer := w.members[0].self.Outer.String()
	dir, err := datadir.Open(w.TempDir())
	w.ok(err)
	defer dir.Close()
	place := Place{Name: "late", Outer: netip.MustParseAddrPort("127.0.77.9:1"), Inside: netip.MustParseAddr("10.0.0.9")}
	join := func(token pki.Token, roles []string, peers ...string) error {
		return Join(t.Context(), dir, JoinConfig{Place: place, Peers: peers, Token: token, Roles: roles}, time.Now)
	}
	for _, c := range []struct {
		name string
		err  error
		want error
	}{
		{"a token nobody made", join(wrong, nil, peer), ErrRefused},
		{"a CA that is another", join(foreign, nil, peer), pki.ErrAuthority},
		{"roles beyond the token", join(good, []string{"witness"}, peer), ErrRefused},
		{"nobody there", join(good, nil, "127.0.77.8:1"), ErrUnreachable},
	} {
		if !errors.Is(c.err, c.want) || dir.HasNode() {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
	if err := join(good, []string{"agent"}, "127.0.77.8:1", peer); err != nil {
		t.Fatalf("the second peer, with the keys of the earlier tries: %v", err)
	}
	if err := join(good, nil, peer); !errors.Is(err, datadir.ErrState) {
		t.Errorf("joined twice: %v", err)
	}
}

// TestANameThatIsTaken: a node calls itself what the registry calls it.
func TestANameThatIsTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1)
	first := w.members[0]
	token, err := pki.ParseToken(w.founded.Token)
	w.ok(err)
	dir, err := datadir.Open(w.TempDir())
	w.ok(err)
	defer dir.Close()
	place := Place{Name: first.self.Name, Outer: netip.MustParseAddrPort("127.0.77.9:1"), Inside: netip.MustParseAddr("10.0.0.9")}
	w.ok(Join(t.Context(), dir, JoinConfig{Place: place, Peers: []string{first.self.Outer.String()}, Token: token}, time.Now))
	self, err := dir.Node()
	w.ok(err)
	if want := first.self.Name + "-2"; self.Name != want {
		t.Errorf("it calls itself %q, want %q", self.Name, want)
	}
	// As an earlier build wrote it.
	self.Name = first.self.Name
	w.ok(dir.SaveNode(self))
	n := &Node{dir: dir}
	w.ok(n.remember())
	if want := first.self.Name + "-2"; n.self.Name != want {
		t.Errorf("after a restart it calls itself %q, want %q", n.self.Name, want)
	}
}

func TestRoleNamesFollowTheVote(t *testing.T) {
	data := registry.RoleGateway | registry.RoleAgent
	for _, c := range []struct {
		is    registry.Roles
		voter bool
		want  []string
	}{
		{data, true, []string{"voter", "gateway", "agent"}},
		{data | registry.RoleVoter, false, []string{"gateway", "agent"}},
		{registry.RoleVoter | registry.RoleWitness, true, []string{"voter", "witness"}},
		{0, false, []string{}},
	} {
		if got := roleNames(c.is, c.voter); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%v, voter %v: %v", c.is, c.voter, got)
		}
	}
}

func TestMemberState(t *testing.T) {
	for _, c := range []struct {
		drained, up, copied bool
		want                string
	}{{false, true, false, "up"}, {true, true, false, "drained"}, {false, false, false, "silent"}, {true, false, false, "silent"}, {true, true, true, "two-hosts"}} {
		if got := memberState(&registry.Node{Drained: c.drained}, c.up, c.copied); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

// TestSessionRow: shares are of what the slices moved, both ways.
func TestSessionRow(t *testing.T) {
	a, b := identity.NodeID{1}, identity.NodeID{2}
	s := registry.New()
	s.Tick = 100
	s.Nodes[a] = &registry.Node{ID: a, Name: "n1"}
	live := &registry.Session{ID: registry.SessionID{7}, Client: "alice", Egress: a, Second: b, Opened: 40, State: registry.SessionActive,
		Bytes: 10, Slices: []registry.Slice{{Number: 0, Epoch: 1, Agent: a, SPI: 0x100001}, {Number: 1, Epoch: 2, Agent: b}}}
	row := sessionRow(s, live, arbiter.Report{
		Usage: map[protocol.SliceRef]protocol.SliceUsage{
			{Session: live.ID, Number: 0, Epoch: 1}: {In: 100, Out: 200, Quiet: 3}, {Session: live.ID, Number: 1, Epoch: 2}: {In: 50, Out: 50},
			{Session: live.ID, Number: 1, Epoch: 1}: {In: 9999},
		},
		Connected: map[registry.SessionID]bool{live.ID: true},
		Moved:     map[registry.SessionID]uint64{live.ID: 500}, // with slices that there are no more
	})
	if row.Egress != "n1" || row.Second != "" || row.Age != time.Minute || row.Bytes != 500 || !row.Connected {
		t.Errorf("%+v", row)
	}
	if row.Slices[0].Quiet != 3 || row.Slices[1].Quiet != 0 {
		t.Errorf("silent for %d and %d s", row.Slices[0].Quiet, row.Slices[1].Quiet)
	}
	if row.Slices[0].Share != 0.75 || row.Slices[1].Share != 0.25 || row.Slices[0].SPI != "0x00100001" ||
		row.Slices[0].Up != 100./150 || row.Slices[1].Down != 0.2 {
		t.Errorf("%+v", row.Slices)
	}
	live.Mode = registry.ModeBurst
	wide := sessionRow(s, live, arbiter.Report{
		Flow:  map[registry.SessionID]protocol.Flow{live.ID: {Skew: 40}},
		Paths: map[protocol.SliceRef]protocol.Path{{Session: live.ID, Number: 1, Epoch: 2}: {Delay: 31_000, Loss: 125, Reordered: 10, Direct: true}},
	})
	if sl := wide.Slices[1]; wide.Skew != 40 || wide.Calmed == "" || sl.Delay != 31_000 || sl.Loss != 0.125 || sl.Behind != 0.01 || !sl.Direct {
		t.Errorf("paths that differ: %+v", wide)
	}
	live.Mode = registry.ModePin
	if pinned := sessionRow(s, live, arbiter.Report{Flow: map[registry.SessionID]protocol.Flow{live.ID: {Skew: 40}}}); pinned.Calmed != "" {
		t.Errorf("pin is calm anyway: %q", pinned.Calmed)
	}
	if idle := sessionRow(s, live, arbiter.Report{}); idle.Slices[0].Share != 0 || idle.Bytes != 10 {
		t.Errorf("nothing moved yet: %+v", idle)
	}
}

// keyed is a node that has its key, and was told nothing yet.
func keyed(t *testing.T) *Node {
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Node{trust: &trust.Trust{Key: key}}
}

func TestProblemsSayWhatToDo(t *testing.T) {
	n := keyed(t)
	n.self.TUN, n.self.InsideIf = "mesh0", "eth1"
	n.forward = &forwarding{stack: &kernelStack{self: n.self}}
	well := agent.Report{Heard: true}
	if all := n.problems(well, nil, time.Hour); len(all) != 0 {
		t.Errorf("a healthy node: %v", all)
	}
	all := n.problems(agent.Report{Path: probe.PathBroken, Silent: []string{"n2", "n3"}}, []string{"a firewall: run `nft`"}, -time.Hour)
	for i, want := range []string{"no arbiter", "from mesh0 to eth1", "run `nft`", "n2, n3", "expired"} {
		if len(all) != 5 || !strings.Contains(all[i], want) {
			t.Fatalf("%q lacks %q", all, want)
		}
	}
	n.forward.stack = &processStack{self: datadir.Node{Inside: netip.MustParseAddr("10.20.0.1"), Outer: netip.MustParseAddrPort("192.0.2.1:6484")}}
	if all := n.problems(agent.Report{Heard: true, Path: probe.PathBroken}, nil, time.Hour); len(all) != 1 || !strings.Contains(all[0], "from 10.20.0.1 does not reach UDP port 6486") {
		t.Errorf("without a TUN: %q", all)
	}
}

// downStack is a host whose inside interface is down, and whose routes went with it.
type downStack struct{ insideStack }

func (downStack) Faults() []string { return []string{"eth1 is down"} }
func (downStack) obstacles([]netip.Addr) []string {
	return []string{"a rule is missing", "eth1 is down"}
}

// TestAnInterfaceThatIsDownComesFirst: what to do about it mends the rest.
func TestAnInterfaceThatIsDownComesFirst(t *testing.T) {
	n := &Node{forward: &forwarding{stack: downStack{}}}
	if all := n.obstacles(); !slices.Equal(all, []string{"eth1 is down", "a rule is missing"}) {
		t.Errorf("%q", all)
	}
}

// TestOverMayHaveHappened: an operator whose arbiter lost the lead is told where to look.
func TestOverMayHaveHappened(t *testing.T) {
	do := sayOver(func(*http.Request, control.Caller, json.RawMessage) (any, error) { return nil, arbiter.ErrOver })
	var said *control.Error
	if _, err := do(nil, control.CallerLocal, nil); !errors.As(err, &said) || !strings.Contains(said.Next, "meshcrypt members") || !strings.Contains(said.Cause, "may have happened") {
		t.Errorf("%v", err)
	}
}

// TestNoArbiterNamesTheVoters: whoever reads of it learns which daemons to start, and the way
// out if they will not come back.
func TestNoArbiterNamesTheVoters(t *testing.T) {
	n := keyed(t)
	for _, name := range []string{"a", "b", "c", "d"} {
		n.members.rows = append(n.members.rows, protocol.NodeRow{Name: name, ID: keyed(t).trust.Key.ID(), Voter: name != "c"})
	}
	all := n.problems(agent.Report{CutOff: true}, nil, time.Hour)
	for i, want := range []string{"it takes 2 of the 3 voters (a, b, d): start those that are down, and look at the links to them", "none of the nodes that it probes"} {
		if !strings.Contains(all[i], want) {
			t.Errorf("%q, want %q", all, want)
		}
	}
	if !strings.Contains(all[0], "meshcrypt operator recover") {
		t.Errorf("%q names no way out", all[0])
	}
	if woke := n.problems(agent.Report{Woke: true}, nil, time.Hour)[0]; strings.Contains(woke, "recover") || !strings.Contains(woke, "stood still") {
		t.Errorf("just after a stop: %q", woke)
	}
}

// TestWhoHearsALeaderRecoversNothing: a voter that no arbiter answers, as with a clock that is
// wrong, and whose log goes on names the leader, and no way out that ends the mesh.
func TestWhoHearsALeaderRecoversNothing(t *testing.T) {
	t.Parallel()
	w := threeVoters(t)
	founder, other := w.members[0], w.members[1]
	w.until("the other votes", func() bool { return other.votes() && other.leaderByLog() == "n1" })
	if all := other.problems(agent.Report{}, nil, time.Hour); !strings.Contains(all[0], "n1 leads") || strings.Contains(all[0], "recover") {
		t.Errorf("%q", all)
	}
	if name := founder.leaderByLog(); name != "" {
		t.Errorf("who leads names %q", name)
	}
}

// TestProblemsNameTheNode: a fault is said once, of the node that has it.
func TestProblemsNameTheNode(t *testing.T) {
	n := keyed(t)
	n.self.Outer = netip.MustParseAddrPort("192.0.2.1:6484")
	for name, c := range map[string]struct {
		report agent.Report
		found  []string
		want   []string
	}{
		"broken, and another took its parts": {
			agent.Report{Heard: true, Is: protocol.Broken, Faults: []string{"a", "b"}}, []string{"a"},
			[]string{"a", "b", "others are egress in its place"},
		},
		"broken, and nobody else is whole": {
			agent.Report{Heard: true, Is: protocol.Broken, Faults: []string{"a"}, Stays: true, Broken: map[string]string{"n2": "the firewall of this host drops packets; d"}}, nil,
			[]string{"a", "no other node is whole", "n2 says that it does not forward as it should (see `meshcrypt status` there): the firewall of n2 drops packets; d"},
		},
		"mended": {agent.Report{Heard: true, Is: protocol.Mended}, nil, nil},
		"one that asks and does not answer": {
			agent.Report{Heard: true, Silent: []string{"n2"}, Unheard: []agent.Unheard{{Name: "n2", Asks: true}}}, nil,
			[]string{"n2 does not answer probes on UDP port 6486 of the inside network, while its stream to the arbiter lives: its own probes arrive here, so look for a firewall on n2"},
		},
		"one that the arbiter heard last, and no arbiter": {
			agent.Report{Silent: []string{"n2"}, Unheard: []agent.Unheard{{Name: "n2"}}}, nil,
			[]string{"no arbiter answers", "no answer over the inside network from n2"},
		},
		"two that are not heard, one of them by nobody": {
			agent.Report{Heard: true, Silent: []string{"n2", "n3"}, Unheard: []agent.Unheard{{Name: "n2"}}}, nil,
			[]string{"look for a firewall on n2, on this host and between", "no answer over the inside network from n3"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			all := n.problems(c.report, c.found, time.Hour)
			if len(all) != len(c.want) {
				t.Fatalf("%q", all)
			}
			for i, want := range c.want {
				if !strings.Contains(all[i], want) {
					t.Errorf("%q lacks %q", all[i], want)
				}
			}
		})
	}
}

// TestWithoutTUNOnlyMasquerades: what cannot work is refused before keys are made.
func TestWithoutTUNOnlyMasquerades(t *testing.T) {
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, err := Found(dir, FoundConfig{Place: Place{Userspace: true}, Egress: registry.EgressRouted}, time.Now()); err == nil || dir.HasNode() {
		t.Errorf("founded: %v", err)
	}
}

// TestOperationsOfALivingMesh: status and members agree on who votes, sessions
// are found by their first characters, what does not exist is said so.
func TestOperationsOfALivingMesh(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2)
	v := w.connect("erin", 0, w.members[0])
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "/", nil)
	w.ok(err)
	founder := w.members[0].Node
	members, err := founder.listMembers(r, control.Nothing{})
	w.ok(err)
	if len(members.Members) != 2 {
		t.Fatalf("%d members", len(members.Members))
	}
	for i, m := range members.Members {
		// The packet path of the twins has no kernel to count for.
		self := w.members[i].Node.members.find(m.ID)
		if status := roleNames(self.Is, self.Voter); !slices.Equal(m.Is, status) || slices.Contains(m.Is, "voter") != m.Voter || m.Voter != (i == 0) {
			t.Errorf("%s is %v, voter %v; its own status says %v", m.Name, m.Is, m.Voter, status)
		}
	}
	sessions, err := founder.listSessions(r, control.SessionsRequest{ID: v.session().ID.String()[:6]})
	if err != nil || len(sessions.Sessions) != 1 || sessions.Sessions[0].Client != "erin" {
		t.Errorf("%+v, %v", sessions, err)
	}
	for prefix, code := range map[string]int{"": control.CodeFailed, "zz": control.CodeFailed} {
		if _, err := founder.findSession(prefix); control.CodeOf(err) != code {
			t.Errorf("session %q: %v", prefix, err)
		}
	}
	profile, err := founder.clientProfile(r, control.NameRequest{Name: "erin"})
	if err != nil || !strings.Contains(profile.Profile, w.members[0].self.Outer.String()) {
		t.Errorf("profile %+v, %v", profile, err)
	}
	if _, err := founder.clientProfile(r, control.NameRequest{Name: "nobody"}); control.CodeOf(err) != control.CodeFailed {
		t.Errorf("a profile of nobody: %v", err)
	}
	if _, err := founder.kick(r, control.KickRequest{ID: v.session().ID.String(), Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	if err := v.end(); err == nil {
		t.Error("a kicked client ended without a reason")
	}
}
