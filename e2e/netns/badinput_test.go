//go:build e2e

package netns

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// wrong is something a person or a stranger gets wrong: what they must be told,
// and the exit code of design 13.
type wrong struct {
	name  string
	code  int
	cause string // expression that stderr has to match
	run   func(*mesh) lab.Result
}

// TestBadInput: every mistake gets its cause, the next command and its exit
// code, while a transfer goes on beside it and loses nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 4) // n3 and n4 stay outside
	m.watch("client")
	m.found()
	single := m.createToken("--uses", "1")
	m.token = single
	m.nodes[1].join(m.nodes[0])
	m.ready(2)
	m.connect()
	beside := m.transfer(lab.Plan{Pace: 100})
	m.foreign()
	for _, w := range append(m.wrongTokens(single), append(m.wrongStates(), m.wrongClients()...)...) {
		t.Run(strings.ReplaceAll(w.name, " ", "-"), func(t *testing.T) { w.check(t, m) })
	}
	t.Run("garbage", func(t *testing.T) { m.throwGarbage(t) })
	r := beside.Finish(within(20 * time.Second))
	t.Logf("the transfer beside it: %v", r)
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	for _, n := range m.nodes[:2] {
		if !n.process.Running() {
			t.Errorf("%s did not survive", n.Name)
		}
	}
}

func (w wrong) check(t *testing.T, m *mesh) {
	r := w.run(m)
	t.Logf("exit %d: %s", r.Code, strings.TrimSpace(r.Stderr))
	if r.Code != w.code {
		t.Errorf("exit %d, want %d", r.Code, w.code)
	}
	if !regexp.MustCompile(`(?is)` + w.cause).MatchString(r.Stderr) {
		t.Errorf("the cause is not named: want %s", w.cause)
	}
	if !strings.Contains(r.Stderr, "next: ") {
		t.Error("no next command")
	}
	if strings.Contains(r.Stderr, "panic") || strings.Contains(r.Stderr, "goroutine ") {
		t.Error("a stack instead of a message")
	}
}

func (m *mesh) createToken(more ...string) string {
	m.Helper()
	out := strings.TrimSpace(m.nodes[0].must(append([]string{"token", "create"}, more...)...))
	token := out[strings.LastIndexByte(out, '\n')+1:] // the last of stdout
	if !tokenForm.MatchString(token) {
		m.Fatalf("token create printed %q", out)
	}
	return token
}

// foreign gives n4 the data directory of another mesh.
func (m *mesh) foreign() {
	m.Helper()
	n := m.nodes[3]
	n.must("init", "--name", "other", "--listen", n.outer+":6484", "--pool", "10.88.0.0/16", "--inside-if", "in")
}

// joining runs join on n3 to its end, with a data directory of its own each
// time: what one mistake leaves must not hide the next.
func joining(token, peer string, more ...string) func(*mesh) lab.Result {
	return func(m *mesh) lab.Result {
		m.fresh++
		n := *m.nodes[2]
		n.dir = m.File(fmt.Sprintf("fresh-%d", m.fresh), "data")
		file := m.Write(token+"\n", "bad-token")
		return n.try(append([]string{"join", peer, "--token-file", file, "--name", n.Name,
			"--listen", n.outer + ":6484", "--inside-if", "in"}, more...)...)
	}
}

func (m *mesh) wrongTokens(used string) []wrong {
	peer := m.nodes[0].outer + ":6484"
	good, short := m.createToken(), m.createToken("--ttl", "1s")
	m.Until("the registry's clock passes the token's end", 15*time.Second, func() error {
		if tokens := m.nodes[0].must("token", "list"); !strings.Contains(tokens, "expired") {
			return fmt.Errorf("%s", tokens)
		}
		return nil
	})
	return []wrong{
		{"malformed token", control.CodeUsage, "token", joining("mct1.nonsense", peer)},
		{"damaged token", control.CodeUsage, "token.*damaged", joining(good[:len(good)-2], peer)},
		{"wrong secret", control.CodeAuth, "token|refused", joining(forge(good, used), peer)},
		{"used token", control.CodeAuth, "used", joining(used, peer)},
		{"expired token", control.CodeAuth, "expired", joining(short, peer)},
		{"token of another CA", control.CodeAuth, "mesh|CA", joining(otherCA(good), peer)},
		{"unreachable peer", control.CodeUnreachable, "192.0.2.99", joining(good, "192.0.2.99:6484")},
		{"peer that is no mesh", control.CodeUnreachable, "198.51.100.1", joining(good, "198.51.100.1:6484")},
		{"role beyond the token", control.CodeAuth, "role|voter", joining(good, peer, "--roles", "voter")},
		{"malformed address", control.CodeUsage, "--listen", joining(good, peer, "--listen", "nonsense")},
		{"unknown interface", control.CodeUsage, "--inside-if", joining(good, peer, "--inside-if", "nosuch0")},
	}
}

// forge is a well-formed token with the name of one and the secret of another.
func forge(token, other string) string {
	a, b := strings.Split(token, "."), strings.Split(other, ".")
	a[3] = b[3]
	return strings.Join(a, ".")
}

// otherCA is a well-formed token of another CA.
func otherCA(token string) string {
	fields := strings.Split(token, ".")
	first := "a"
	if strings.HasPrefix(fields[1], first) {
		first = "b"
	}
	fields[1] = first + fields[1][1:]
	return strings.Join(fields, ".")
}

func (m *mesh) wrongStates() []wrong {
	n1, n2, n3, n4 := m.nodes[0], m.nodes[1], m.nodes[2], m.nodes[3]
	return []wrong{
		{"joining twice", control.CodeFailed, "in use|another process", func(m *mesh) lab.Result {
			return n2.try("join", n1.outer+":6484", "--token-file", m.tokenFile())
		}},
		{"founding twice", control.CodeUsage, "member", func(m *mesh) lab.Result {
			return n4.try("init", "--name", "x", "--listen", n4.outer+":6484")
		}},
		{"data directory of another mesh", control.CodeUsage, "another mesh", func(m *mesh) lab.Result {
			return n4.try("join", n1.outer+":6484", "--token-file", m.Write(m.createToken()+"\n", "t4"))
		}},
		{"running without a mesh", control.CodeUsage, "no node|no mesh|init", func(m *mesh) lab.Result { return n3.try("run") }},
		{"asking without a daemon", control.CodeUnreachable, "no daemon", func(m *mesh) lab.Result { return n3.try("status") }},
		{"unknown command", control.CodeUsage, "conect", func(m *mesh) lab.Result { return n3.try("conect") }},
		{"unknown flag", control.CodeUsage, "--nonsense", func(m *mesh) lab.Result { return n3.try("run", "--nonsense") }},
		{"pool with host bits", control.CodeUsage, "10.77.0.1/16", func(m *mesh) lab.Result { return n3.try("init", "--pool", "10.77.0.1/16") }},
		{"unknown key in the settings file", control.CodeUsage, "line 2.*inside-iff", configured("name = \"x\"\ninside-iff = \"in\"\n")},
		{"broken settings file", control.CodeUsage, "line 3", configured("name = \"x\"\n\nlisten = = 5\n")},
		{"wrong value in the settings file", control.CodeUsage, "line 1.*capacity", configured("capacity = \"lots\"\n")},
		{"port in use", control.CodeFailed, "in use", portInUse},
		{"no right to make a TUN", control.CodeFailed, "permi", func(m *mesh) lab.Result {
			return n4.Try(n4.environment(), append([]string{"setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"}, n4.command("run")...)...)
		}},
	}
}

func configured(text string) func(*mesh) lab.Result {
	return func(m *mesh) lab.Result {
		return m.nodes[2].try("--config", m.Write(text, "bad.toml"), "init")
	}
}

func portInUse(m *mesh) lab.Result {
	n := m.nodes[3]
	var other net.Listener
	err := n.Do(func() (err error) {
		other, err = net.Listen("tcp", n.outer+":6484")
		return err
	})
	if err != nil {
		m.Fatalf("%v", err)
	}
	defer other.Close()
	return n.try("run")
}

func (m *mesh) wrongClients() []wrong {
	connect := func(more ...string) func(*mesh) lab.Result {
		return func(m *mesh) lab.Result {
			// From n3, a host without a client of its own.
			return m.nodes[2].try(append([]string{"connect", "--run-dir", m.File("other-client"), "--tun", "other0"}, more...)...)
		}
	}
	profile, err := os.ReadFile(m.profile)
	if err != nil {
		m.Fatalf("%v", err)
	}
	no := m.Write("not the password\n", "no-password")
	hash := strings.Repeat("a", 52)
	return []wrong{
		{"connect without a trust anchor", control.CodeUsage, "CA hash", connect(m.nodes[0].outer, "--user", user, "--password-file", no)},
		{"connect to nothing", control.CodeUsage, "no mesh", connect()},
		{"connect to another CA", control.CodeAuth, "mesh|CA|hash", connect(m.nodes[0].outer+"#"+hash, "--user", user, "--password-file", no)},
		{"wrong password", control.CodeAuth, "denied|password", connect("--profile", m.profile, "--password-file", no)},
		{"unknown user", control.CodeAuth, "denied|password", connect("--profile", m.profile, "--user", "eve", "--password-file", no)},
		{"unknown key in the profile", control.CodeUsage, "trust_everybody",
			connect("--profile", m.Write(string(profile)+"trust_everybody = true\n", "p1.toml"), "--password-file", no)},
		{"unreachable gateway", control.CodeUnreachable, "192.0.2.99",
			connect("--profile", m.Write(regexp.MustCompile(`(?m)^gateways.*$`).ReplaceAllString(string(profile), `gateways = ["192.0.2.99:6484"]`), "p2.toml"), "--password-file", no)},
	}
}

// throwGarbage sends every node datagrams and TCP bytes that nobody should,
// from the client's host, while its transfer runs.
func (m *mesh) throwGarbage(t *testing.T) {
	random := rand.New(rand.NewPCG(6484257, 1))
	sent := 0
	for _, n := range m.nodes[:2] {
		err := m.client.Do(func() error {
			conn, err := net.Dial("udp", n.outer+":6484")
			if err != nil {
				return err
			}
			defer conn.Close()
			for i := range 5000 {
				if _, err := conn.Write(garbage(random, i)); err != nil {
					return fmt.Errorf("datagram %d: %w", i, err)
				}
				sent++
				if i%100 == 0 {
					time.Sleep(time.Millisecond) // the socket of this host is not what is tested
				}
			}
			return n.garbleTCP(random)
		})
		if err != nil {
			t.Errorf("%s: %v", n.Name, err)
		}
		if status, err := n.status(); err != nil {
			t.Error(err)
		} else {
			t.Logf("%s dropped %v", n.Name, status.Dropped)
		}
	}
	t.Logf("%d datagrams", sent)
}

// garbage is truncated, random, or almost a packet.
func garbage(random *rand.Rand, i int) []byte {
	p := make([]byte, random.IntN(1400)+1)
	for j := range p {
		p[j] = byte(random.Uint32())
	}
	switch i % 5 {
	case 0:
		p = p[:min(len(p), random.IntN(20)+1)] // too short for anything
	case 1:
		clear(p[:min(len(p), 4)]) // the marker of what is not ESP
	case 2:
		copy(p, []byte{0, 0, 0, 0, byte(1 + random.IntN(6)), 1, 0, 0, 0, 0x10, 0, byte(i)})
	case 3:
		copy(p, []byte{0, 0x10 | byte(random.IntN(4)), byte(i), byte(i >> 8), 0, 0, 0, 1}) // an SPI of a living index
	}
	return p
}

func (n *host) garbleTCP(random *rand.Rand) error {
	for i := range 20 {
		conn, err := net.DialTimeout("tcp", n.outer+":6484", time.Second)
		if err != nil {
			return err
		}
		// The node may close before it has read everything.
		_, _ = conn.Write(append([]byte{22, 3, 1, 0, 200, 1}, garbage(random, i)...))
		conn.Close()
	}
	return nil
}
