//go:build e2e

package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp/oracle"
	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// The world of every test here. Outer and inside networks touch nowhere but in
// the nodes; `wan` is the internet, a router; `lan` is the company's switch,
// without an address of its own.
//
//	                    wan (router, forwards; the captures are here)
//	            198.51.100.1          192.0.2.254 on a bridge
//	  client        │                      │
//	198.51.100.10 ──┘        ┌─────────┬───┴─────┬─────────┐
//	  mesh TUN            .1 │out   .2 │out   .3 │out   .4 │out      192.0.2.0/24
//	                       ┌─┴─┐     ┌─┴─┐     ┌─┴─┐     ┌─┴─┐
//	                       │n1 │     │n2 │     │n3 │     │n4 │
//	                       └─┬─┘     └─┬─┘     └─┬─┘     └─┬─┘
//	                      .1 │in    .2 │in    .3 │in    .4 │in       10.20.0.0/24
//	                         └─────────┴── lan ──┴─────────┘
//	                                        │
//	                                   dest, 10.20.0.100
//	    routes: 10.77.0.0/18 via .201, 10.77.64.0/18 via .202, ... (moving inside addresses)
//
// A plan may ask for IPv6 beside this or in its place, see families_test.go.
const (
	destination = "10.20.0.100"
	clientOuter = "198.51.100.10"
	user        = "ann"
	password    = "correct horse battery staple"
	parts       = 4
)

// mesh is a world with a mesh in it.
type mesh struct {
	*lab.World
	t           *testing.T
	plan        plan
	binary      string
	env         []string // of every process
	wan, dest   *lab.Space
	lan         *lab.Space
	nodes       []*host
	client      *host
	clients     []*host // all of them, the one above first
	oracleFile  string
	watches     map[string]*lab.Watch // by device of wan
	undisturbed *lab.Beside           // see quiet
	token       string
	recovery    string // key
	profile     string // file
	fresh       int    // data directories that were used once
	initMore    []string
}

// newMesh builds the networks and hosts of IPv4; nothing runs on them yet.
func newMesh(t *testing.T, count int) *mesh {
	t.Helper()
	return newMeshOf(t, count, plan{outside: ipv4, inside: ipv4})
}

func newMeshOf(t *testing.T, count int, p plan) *mesh {
	t.Helper()
	dir := t.TempDir()
	if keep := os.Getenv(envKeep); keep != "" {
		dir = filepath.Join(keep, t.Name())
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	m := &mesh{World: lab.New(t, dir), t: t, plan: p, binary: program(t), watches: map[string]*lab.Watch{}}
	m.oracleFile = m.File("nonces")
	// What else the machine does is no load of these hosts: they would refuse work
	// whenever it is busy.
	m.env = []string{"MESHCRYPT_NONCE_ORACLE=" + m.oracleFile, "MESHCRYPT_OWN_LOAD=1", "MESHCRYPT_CONFIG=" + os.DevNull}
	m.wan, m.dest = m.Space("wan"), m.Space("dest")
	lan := m.Space("lan")
	m.lan = lan
	bridge(m.wan)
	bridge(lan)
	m.wan.Sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	address(m.wan, "sw0", p.outside, "192.0.2.254", "2001:db8:2::fe")
	for i := 1; i <= count; i++ {
		m.nodes = append(m.nodes, m.newNode(i, lan))
	}
	m.Wire(m.dest, "in", lan, "dest")
	lan.Sh("ip link set dest master sw0")
	address(m.dest, "in", p.inside, destination, destination6)
	m.routeParts()
	m.client = m.newClient("client", p.outside)
	t.Cleanup(m.afterwards)
	return m
}

func bridge(s *lab.Space) {
	s.Sh("ip link add sw0 type bridge forward_delay 0; ip link set sw0 up")
}

func (m *mesh) newNode(i int, lan *lab.Space) *host {
	name := fmt.Sprintf("n%d", i)
	outside := m.plan.outsideOf(i)
	h := &host{
		Space: m.Space(name), mesh: m, dir: m.File(name, "data"), families: outside,
		outer6: fmt.Sprintf("2001:db8:2::%d", i),
		outer:  pick(outside, fmt.Sprintf("192.0.2.%d", i), fmt.Sprintf("2001:db8:2::%d", i)),
		inside: pick(m.plan.inside, fmt.Sprintf("10.20.0.%d", i), fmt.Sprintf("fd20::%d", i)),
	}
	m.Wire(h.Space, "out", m.wan, name)
	m.Wire(h.Space, "in", lan, name)
	m.wan.Sh("ip link set %s master sw0", name)
	lan.Sh("ip link set %s master sw0", name)
	address(h.Space, "out", outside, fmt.Sprintf("192.0.2.%d", i), fmt.Sprintf("2001:db8:2::%d", i))
	address(h.Space, "in", m.plan.inside, fmt.Sprintf("10.20.0.%d", i), fmt.Sprintf("fd20::%d", i))
	defaultRoute(h.Space, outside, "192.0.2.254", "2001:db8:2::fe")
	return h
}

// watch looks at outer links from the router's side; see afterwards.
func (m *mesh) watch(devices ...string) {
	for _, device := range devices {
		m.watches[device] = m.wan.Watch(device, []byte(lab.Canary), portsOn(device)...)
	}
}

// portsOn is what may be seen on an outer link: one port at the client, and
// the gossip of nodes beside it at a node.
func portsOn(device string) []uint16 {
	if strings.HasPrefix(device, "client") {
		return []uint16{6484}
	}
	return []uint16{6484, 6485}
}

// afterwards holds what every test must leave: no nonce used twice (I2), no
// cleartext on a watched link (I4).
func (m *mesh) afterwards() {
	for device, w := range m.watches {
		seen, err := w.End()
		if err != nil {
			m.t.Errorf("watch of %s: %v", device, err)
		}
		for _, where := range seen.Canaries {
			m.t.Errorf("I4: cleartext on the outer link %s: %s", device, where)
		}
		for what, packets := range seen.Strange {
			// ICMP tells of a dead host's ports, and in IPv6 of the neighbours.
			if !strings.HasPrefix(what, "proto 1 ") && !strings.HasPrefix(what, "proto 58 ") {
				m.t.Errorf("I4: on the outer link %s: %d packets of %s", device, packets, what)
			}
		}
		m.t.Logf("outer link %s: %d packets, %.1f MB, %d not looked at, no port but %v", device,
			seen.Packets, float64(seen.Bytes)/1e6, seen.Missed, portsOn(device))
	}
	m.checkOracle()
	if m.t.Failed() {
		for _, h := range append(slices.Clone(m.nodes), m.clients...) {
			if h != nil && h.process != nil {
				m.t.Log(h.process.Tail(25))
			}
		}
	}
}

func (m *mesh) checkOracle() {
	file, err := os.Open(m.oracleFile)
	if err != nil {
		m.t.Errorf("I2: no record of nonces, so nothing was proved: %v", err)
		return
	}
	defer file.Close()
	if err := oracle.Check(file); err != nil {
		m.t.Errorf("I2: %v", err)
	}
	if info, err := file.Stat(); err != nil || info.Size() == 0 {
		m.t.Errorf("I2: the record of nonces is empty, so nothing was proved: %v", err)
	} else {
		m.t.Logf("I2: %d reservations of counters, none twice", info.Size()/oracle.RecordSize)
	}
}

// initArgs found the mesh on n1.
func (m *mesh) initArgs(more ...string) []string {
	n := m.nodes[0]
	args := append([]string{"init"}, n.placeArgs()...)
	args = append(args, m.plan.poolArgs()...)
	return append(append(args, m.initMore...), more...)
}

var recoveryForm = regexp.MustCompile(`MCR1-[A-Za-z0-9-]+`)

var tokenForm = regexp.MustCompile(`mct1\.[A-Za-z0-9]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+`)

// found makes n1 the first node and starts it.
func (m *mesh) found() {
	m.Helper()
	r := m.nodes[0].try(m.initArgs()...)
	m.token, m.recovery = tokenForm.FindString(r.Out+r.Stderr), recoveryForm.FindString(r.Out)
	if r.Code != 0 || m.token == "" {
		m.Fatalf("init: exit %d and no token\n%s%s", r.Code, r.Out, r.Stderr)
	}
	m.nodes[0].start("run")
	m.ready(1)
}

func (m *mesh) tokenFile() string { return m.Write(m.token+"\n", "token") }

func (h *host) join(peer *host) {
	h.mesh.Helper()
	h.start(append([]string{"join", peer.at(h.families), "--token-file", h.mesh.tokenFile()}, h.placeArgs()...)...)
}

// at is where a host of those families finds this one.
func (h *host) at(from families) string {
	return net.JoinHostPort(pick(from&h.families, h.outer, h.outer6), "6484")
}

// placeArgs say where the host takes part.
func (h *host) placeArgs() []string {
	args := []string{"--name", h.Name, "--inside-if", "in", "--inside", h.inside}
	if h.families == dualStack {
		return append(args, "--advertise", h.outer+","+h.outer6) // listens everywhere
	}
	return append(args, "--listen", h.at(dualStack))
}

// up founds the mesh and lets every other host join it.
func (m *mesh) up() {
	m.Helper()
	m.found()
	for i, n := range m.nodes[1:] {
		n.join(m.nodes[0])
		m.ready(i + 2)
	}
	if len(m.nodes) >= 3 {
		m.threeVoters()
	}
}

func (m *mesh) threeVoters() {
	m.Helper()
	m.Until("three voters", 60*time.Second, func() error {
		members, err := m.members()
		voters := 0
		for _, member := range members {
			if member.Voter {
				voters++
			}
		}
		if err == nil && voters != 3 {
			err = fmt.Errorf("%d voters", voters)
		}
		return err
	})
}

// members asks the first node that answers.
func (m *mesh) members() ([]control.Member, error) {
	err := errors.New("no node runs")
	for _, n := range m.nodes {
		if n.process == nil || !n.process.Running() {
			continue
		}
		var answer control.Members
		if answer, err = ask[control.Members](n, "members"); err == nil {
			return answer.Members, nil
		}
	}
	return nil, err
}

// ready waits until so many members are up and have roles.
func (m *mesh) ready(count int) {
	m.Helper()
	m.Until(fmt.Sprintf("%d members up", count), 30*time.Second, func() error {
		members, err := m.members()
		if err != nil {
			return err
		}
		up := 0
		for _, member := range members {
			if member.State == "up" && len(member.Is) > 0 {
				up++
			}
		}
		if up < count {
			return fmt.Errorf("%d of %d are up: %+v", up, count, members)
		}
		return nil
	})
}

// admit registers the user and writes the profile.
func (m *mesh) admit() {
	m.Helper()
	n := m.nodes[0]
	n.must("client", "add", user, "--password-file", m.passwordFile())
	m.profile = m.Write(n.must("client", "profile", user), "profile.toml")
}

func (m *mesh) passwordFile() string { return m.Write(password+"\n", "password") }

// connect starts the client and waits for a connection through the mesh.
func (m *mesh) connect(more ...string) time.Duration {
	m.Helper()
	m.rest()
	return m.connectBusy(more...)
}

// connectBusy is connect where it does not matter how many agents the session
// gets.
func (m *mesh) connectBusy(more ...string) time.Duration {
	m.Helper()
	if m.profile == "" {
		m.admit()
	}
	m.client.dialIn(more...)
	return m.Until("a connection from the client to the destination", 20*time.Second, m.reach)
}

// dialIn starts a client, and waits for nothing.
func (h *host) dialIn(more ...string) {
	m := h.mesh
	m.Helper()
	h.start(append([]string{"connect", "--run-dir", m.File("client", "run"), "--profile", m.profile, "--user", user, "--password-file", m.passwordFile()}, more...)...)
}

// rest waits until every node has room: the load of what went before would
// give the next session fewer agents.
func (m *mesh) rest() {
	m.Helper()
	m.Until("the nodes have room", time.Minute, func() error {
		members, err := m.members()
		for _, member := range members {
			if member.Load > 0.8 {
				err = errors.Join(err, fmt.Errorf("load of %s is %.2f", member.Name, member.Load))
			}
		}
		return err
	})
}

// routed says that the client's packets to the destination go into its tunnel.
// Before that nothing may be sent there: on a host without a tunnel it goes
// out in clear, as it should.
func (m *mesh) routed() error { return m.client.routed() }

func (h *host) routed() error {
	for _, to := range h.mesh.plan.destinations() {
		// A blackhole is an error of the command.
		if r := h.Try(nil, "ip", "route", "get", to); !strings.Contains(r.Out, "dev mesh0") {
			return fmt.Errorf("route: %s%s", r.Out, r.Stderr)
		}
	}
	return nil
}

func (m *mesh) reach() error { return m.client.reach() }

func (h *host) reach() error {
	m := h.mesh
	if p := h.process; p != nil && !p.Running() {
		return fmt.Errorf("the client ended: %s", p.Tail(5))
	}
	if err := h.routed(); err != nil {
		return err
	}
	var errs []error
	for _, to := range m.plan.destinations() {
		errs = append(errs, m.Reach(h.Space, m.dest, to))
	}
	return errors.Join(errs...)
}

// session is the client's one session, as any node tells it.
func (m *mesh) session() (control.Session, error) {
	err := errors.New("no node runs")
	for _, n := range m.nodes {
		if n.process == nil || !n.process.Running() {
			continue
		}
		var answer control.Sessions
		if answer, err = ask[control.Sessions](n, "sessions"); err != nil {
			continue
		}
		if len(answer.Sessions) != 1 {
			err = fmt.Errorf("%d sessions, want 1", len(answer.Sessions))
			continue
		}
		return answer.Sessions[0], nil
	}
	return control.Session{}, err
}

// slices waits until the session has so many slices up.
func (m *mesh) slices(count int) control.Session {
	m.Helper()
	var s control.Session
	m.Until(fmt.Sprintf("%d slices up", count), 30*time.Second, func() (err error) {
		if s, err = m.session(); err != nil {
			return err
		}
		up := 0
		for _, slice := range s.Slices {
			if slice.State == "up" {
				up++
			}
		}
		if up < count {
			return fmt.Errorf("%d up: %+v", up, s.Slices)
		}
		return nil
	})
	return s
}

// transfer is between client and destination, in the plan's first family inside.
func (m *mesh) transfer(plan lab.Plan) *lab.Transfer {
	m.Helper()
	return m.Transfer(m.client.Space, m.dest, m.plan.destinations()[0], plan)
}

func (m *mesh) node(name string) *host {
	m.Helper()
	for _, n := range m.nodes {
		if n.Name == name {
			return n
		}
	}
	m.Fatalf("no node is named %q", name)
	return nil
}

func within(d time.Duration) context.Context {
	// The time is the bound of one wait; the test ends soon after.
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return ctx
}
