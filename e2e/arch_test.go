package e2e

import (
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// under reports whether name is one of the prefixes or below one.
func under(name string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool {
		return name == p || strings.HasPrefix(name, p+"/")
	})
}

// below is under, without the prefix itself.
func below(name, prefix string) bool { return strings.HasPrefix(name, prefix+"/") }

func ours(path string) bool { return under(path, module) }

// local shortens our own packages; others get a mark, so that the standard
// library's crypto is not taken for ours.
func local(path string) string {
	if ours(path) {
		return inside(path)
	}
	return "other:" + path
}

// thirdParty reports whether a local path is neither ours nor the standard library's.
func thirdParty(path string) bool {
	outside, other := strings.CutPrefix(path, "other:")
	host, _, _ := strings.Cut(outside, "/")
	return other && strings.Contains(host, ".")
}

// arrow says what some packages must not import directly.
type arrow struct {
	from      func(name string) bool
	forbidden func(path string) bool // of a local path
	why       string
}

func in(prefixes ...string) func(string) bool {
	return func(name string) bool { return under(name, prefixes...) }
}

func exactly(names ...string) func(string) bool {
	return func(name string) bool { return slices.Contains(names, name) }
}

func not(f func(string) bool) func(string) bool { return func(s string) bool { return !f(s) } }

func and(fs ...func(string) bool) func(string) bool {
	return func(s string) bool {
		return !slices.ContainsFunc(fs, func(f func(string) bool) bool { return !f(s) })
	}
}

var projectPackage = in("cmd", "node", "mesh", "consensus", "crypto", "slicing", "e2e")

// twins are the in-memory stand-ins that tests of any package may use.
var twins = in("mesh/link/linktest", "mesh/meshtest", "node/tun/tuntest")

func TestArrows(t *testing.T) {
	for _, p := range packages(t) {
		for _, rule := range arrows {
			if !rule.from(p.name()) {
				continue
			}
			for _, path := range p.Imports {
				if rule.forbidden(local(path)) {
					t.Errorf("%s imports %s: %s", p.name(), inside(path), rule.why)
				}
			}
		}
	}
}

// arrows only go down: cmd, node, then mesh, consensus, crypto/* and slicing.
var arrows = []arrow{
	{in("mesh"), in("consensus"), "gossip is a hint and must not reach the truth by itself (I9); node joins the two"},
	{in("consensus"), in("mesh"), "the log decides without asking gossip who is alive (I9); node joins the two"},
	{not(in("cmd", "e2e", "node")), in("node", "cmd", "e2e"), "arrows go down; node builds on the others"},
	{in("node"), in("cmd", "e2e"), "arrows go down; cmd only reads flags and calls node"},
	{not(in("cmd", "e2e")), exactly("node"), "node wires every part together; a part that imports it cannot be tested alone"},
	{in("cmd"), in("mesh", "consensus", "slicing"), "cmd speaks to a node through node and node/control; what it needs below belongs there"},
	{and(not(in("e2e")), not(exactly("node", "node/arbiter"))), exactly("consensus"), "roles are fed by the control loop; only node and its arbiter hold the log"},
	{not(in("node", "e2e", "consensus")), in("consensus"), "the registry's nouns belong to the control plane"},
	{and(in("node"), not(exactly("node", "node/arbiter"))), exactly("mesh"), "gossip reaches the parts of a node only through its control loop"},
	{exactly("mesh", "mesh/meshtest"), in("mesh/link"), "gossip and data datagrams share nothing but the host"},
	{in("mesh/link"), and(projectPackage, not(in("mesh/link"))), "link moves bytes; it must not know what they are"},
	{exactly("mesh"), and(projectPackage, not(in("mesh", "crypto/identity"))), "a member is a name and a hint, nothing else"},
	{exactly("consensus"), and(projectPackage, not(in("consensus", "crypto"))), "consensus carries commands; it does not know a node"},
	{in("consensus/registry"), and(projectPackage, not(in("consensus/registry", "crypto/identity", "slicing"))), "the state machine stands on values only, or replicas could differ"},
	{in("crypto"), and(projectPackage, not(in("crypto"))), "crypto is the bottom: reviewed alone, reused by all"},
	{in("crypto/identity", "crypto/replay", "crypto/record"), projectPackage, "the bottom of the bottom: nothing of ours"},
	{in("slicing"), and(projectPackage, not(in("slicing"))), "slicing is arithmetic: standard library only"},
	{in("node/pmtu", "node/slots"), projectPackage, "a search is arithmetic over answers: standard library only"},
	{in("node/clocks"), and(projectPackage, not(in("crypto/identity"))), "whose clock is wrong is arithmetic over readings"},
	{in("node/loop"), projectPackage, "a stream knows when its other end is gone, not what it says: standard library only"},
	{in("node/trunk"), and(projectPackage, not(in("node/loop"))), "a trunk carries bytes; whose they are is said beside it"},
	{in("node/pages"), projectPackage, "a table knows nothing of what its rows mean: standard library only"},
	{in("node/admit"), projectPackage, "what may be reached is arithmetic over addresses: standard library only"},
	{in("slicing", "consensus/registry", "node/session", "node/pmtu", "node/slots", "node/admit", "node/clocks", "node/pages"), thirdParty, "pure packages are proven alone: standard library only"},
	{in("node/gateway"), in("crypto/mka", "crypto/vault", "crypto/pki"), "a gateway has no keys"},
	{in("node/session"), in("node/dataplane", "node/gateway", "node/port", "mesh", "node/host"), "arbitration is a pure decision; the control loop carries it out"},
	{and(not(in("e2e")), not(twins)), twins, "twins are for tests"},
}

// owners may import a library; nobody else, tests included.
var owners = []struct {
	library string
	owner   func(name string) bool
	why     string
}{
	{"github.com/hashicorp/memberlist", in("mesh"), "gossip stays behind mesh"},
	{"github.com/hashicorp/raft", in("consensus"), "Raft stays behind consensus, where a child process can serve it later"},
	{"github.com/hashicorp/raft-boltdb", in("consensus"), "the log's store is Raft's"},
	{"github.com/hashicorp/go-hclog", in("consensus"), "Raft's logger is adapted once; everybody else has log/slog"},
	{"go.etcd.io/bbolt", in("consensus"), "the log's store is Raft's"},
	{"github.com/libp2p/go-reuseport", in("mesh/link"), "a socket per worker is link's business"},
	{"github.com/hanwen/go-fuse", in("e2e/netns/lab"), "disks that fail are the lab's; no node serves files"},
	{"golang.org/x/crypto", in("crypto", "node/auth"), "cryptography is written and reviewed in one place"},
	{"github.com/google/nftables", in("node/host", "e2e"), "the host's tables have one owner, who also restores them"},
	{"github.com/mdlayher/netlink", in("node/conntrack", "node/host"), "the kernel's flows are read and written in one place; the host makes the one message that google/nftables cannot"},
	{"github.com/vishvananda/netlink", in("node/host", "node/tun", "mesh/link", "cmd/meshcrypt/demo", "e2e"), "the host's routes have one owner, who also restores them; the demo touches its own namespaces only"},
	{"github.com/vishvananda/netns", in("cmd/meshcrypt/demo", "e2e"), "a node lives in the namespace it was started in"},
	{"github.com/spf13/cobra", in("cmd"), "only cmd reads flags"},
	{"github.com/BurntSushi/toml", in("cmd", "node", "node/client"), "files that people write are read at the edge"},
	{"gvisor.dev/gvisor", in("node/netstack"), "a stack of our own is behind tun.Device and dialing"},
	{"unsafe", in("mesh/link", "node/tun", "node/dataplane", "e2e/netns/lab"), "only system calls and the inner loop of the checksum need it"},
	{"C", exactly(), "one static binary: no cgo"},
}

func TestLibraryOwners(t *testing.T) {
	for _, p := range packages(t) {
		for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
			for _, o := range owners {
				if under(path, o.library) && !o.owner(p.name()) {
					t.Errorf("%s imports %s: %s", p.name(), path, o.why)
				}
			}
		}
	}
}

// TestMeshAndConsensusApart holds the one arrow that matters most also through
// any package between them.
func TestMeshAndConsensusApart(t *testing.T) {
	for _, p := range packages(t) {
		for _, dep := range p.Deps {
			if under(p.name(), "mesh") && under(local(dep), "consensus") ||
				under(p.name(), "consensus") && under(local(dep), "mesh") {
				t.Errorf("%s reaches %s: gossip is a hint and the log is the truth (I9)", p.name(), inside(dep))
			}
		}
	}
}

// pure reports whether a package only computes: no network, files, locks, logs
// or clock, so that tests own its time and chance. Its tests may have them.
func pure(name string) bool {
	return under(name, "slicing", "consensus/registry", "node/session", "node/pmtu", "node/slots", "node/admit", "node/clocks", "node/pages") || below(name, "crypto")
}

func TestPurePackages(t *testing.T) {
	impure := []string{"net", "os", "sync", "log", "syscall", "crypto/rand", "math/rand", "time/tzdata", "context", "runtime"}
	for _, s := range sources(t) {
		if !pure(s.dir()) || s.test() {
			continue
		}
		for _, spec := range s.syntax.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			fine := path == "net/netip" || path == "net/url" || under(path, "sync") && s.dir() == "crypto/esp"
			if under(path, impure...) && !fine {
				t.Errorf("%s imports %s: %s is pure; take what you need as an argument", s.path, path, s.dir())
			}
		}
		for name, pos := range clockCalls(s.syntax) {
			t.Errorf("%s:%d calls time.%s: %s is pure; take the time as an argument", s.path, s.fset.Position(pos.Pos()).Line, name, s.dir())
		}
	}
}

// clockCalls finds uses of the clock by name.
func clockCalls(file *ast.File) map[string]ast.Node {
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}
	found := make(map[string]ast.Node)
	ast.Inspect(file, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains(clock, s.Sel.Name) {
				found[s.Sel.Name] = n
			}
		}
		return true
	})
	return found
}
