//go:build e2e

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
)

// masquerade lets the mesh hide its clients: nobody inside has a route to the
// pool.
func (m *mesh) masquerade() *mesh {
	m.initMore = append(m.initMore, "--egress", "masquerade")
	for _, route := range m.plan.partRoutes() {
		m.dest.Sh("ip route del %s", route)
	}
	return m
}

// moving says whether an address is one of the mesh's moving inside addresses.
func moving(a netip.Addr) bool {
	for i := range parts {
		if a == netip.AddrFrom4([4]byte{10, 20, 0, byte(201 + i)}) {
			return true
		}
	}
	return false
}

// TestMasquerade: transfers both ways through one, two and three agents; the
// destination sees one address, that of the session's part.
func TestMasquerade(t *testing.T) {
	t.Parallel()
	for agents := 1; agents <= 3; agents++ {
		t.Run(fmt.Sprintf("%d agents", agents), func(t *testing.T) {
			m := newMesh(t, agents).masquerade()
			m.watch("client")
			m.up()
			m.connect("--slice-mode", "burst")
			m.slices(max(1, agents-1)) // the arbiter's node keeps out of it while two others can
			seen := map[netip.Addr]bool{}
			for _, plan := range []lab.Plan{{Bytes: 50 << 20}, {Bytes: 50 << 20, Down: true}} {
				going := m.transfer(plan)
				seen[going.From.Addr()] = true
				r := going.Wait(within(60 * time.Second))
				t.Logf("down %v, from %v: %v", plan.Down, going.From, r)
				if err := r.Check(); err != nil {
					t.Error(err)
				}
			}
			for a := range seen {
				if len(seen) != 1 || !moving(a) {
					t.Errorf("the destination saw %v, want one moving address", seen)
				}
			}
		})
	}
}

// TestMasqueradeKillEgress: TCP, UDP and an echo keep their connection, their
// address and their port when the egress is killed; the UDP port is one that
// the second would not have chosen itself. The hosts drop what their connection
// tracking calls invalid.
func TestMasqueradeKillEgress(t *testing.T) { unspoiled(t, testMasqueradeKillEgress) }

func testMasqueradeKillEgress(t *testing.T) {
	m := newMesh(t, 4).masquerade()
	for _, n := range m.nodes {
		n.Sh("%s", stacks[0].setup)
	}
	var talks []*talk
	testKillIn(m, 2, otherStall, func(m *mesh) (*host, error) {
		if talks == nil {
			talks = []*talk{m.talk("udp"), m.talk("ping")}
		}
		return egressOfSession(m)
	})
	for _, talk := range talks {
		m.want(talk.end(t, m.undisturbed.Worst()))
	}
}

// talk is a datagram and its answer, again and again, over one socket.
type talk struct {
	kind string
	stop chan struct{}
	done sync.WaitGroup

	mu       sync.Mutex // protects the fields below
	from     map[string]bool
	answered int
	gap      time.Duration
	err      error
}

// talk begins one from the client to the destination.
func (m *mesh) talk(kind string) *talk {
	m.Helper()
	k := &talk{kind: kind, stop: make(chan struct{}), from: map[string]bool{}}
	m.Cleanup(k.close)
	var near net.Conn
	switch kind {
	case "udp":
		server := m.listenUDP()
		k.done.Go(func() { k.answer(server) })
		m.occupy(server.LocalAddr().(*net.UDPAddr).Port)
		near = m.dialUDP(server.LocalAddr().String())
	case "ping":
		near = m.dialPing()
	}
	k.done.Go(func() { k.ask(near) })
	return k
}

func (m *mesh) listenUDP() (server *net.UDPConn) {
	m.Helper()
	if err := m.dest.Do(func() (err error) {
		server, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(destination+":0")))
		return err
	}); err != nil {
		m.Fatalf("listen: %v", err)
	}
	return server
}

// talkPort is the client's port; occupy takes it at the egress, for another
// client's flow to the same server, so that the egress has to change it.
const talkPort = 40001

func (m *mesh) occupy(server int) {
	m.Helper()
	s, err := m.session()
	if err != nil {
		m.Fatalf("no egress: %v", err)
	}
	v := m.node(s.Egress)
	for i := range parts {
		v.Sh("conntrack -I -p udp -s 10.77.250.%d -d %s --sport %d --dport %d --src-nat 10.20.0.%d --timeout 600 --status SEEN_REPLY",
			i+1, destination, talkPort, server, 201+i)
	}
}

func (m *mesh) dialUDP(to string) (near net.Conn) {
	m.Helper()
	if err := m.client.Do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.UDPAddr{Port: talkPort}}
		near, err = d.Dial("udp4", to)
		return err
	}); err != nil {
		m.Fatalf("dial: %v", err)
	}
	return near
}

// dialPing is a socket of echoes under one identifier, which the kernel fills
// in and sorts by.
func (m *mesh) dialPing() (near net.Conn) {
	m.Helper()
	m.client.Sh("sysctl -qw net.ipv4.ping_group_range='0 0'")
	if err := m.client.Do(func() error { return pingSocket(&near, destination) }); err != nil {
		m.Fatalf("ping socket: %v", err)
	}
	return near
}

func (k *talk) close() {
	select {
	case <-k.stop:
	default:
		close(k.stop)
	}
	k.done.Wait()
}

// answer echoes what comes, and notes from whom.
func (k *talk) answer(server *net.UDPConn) {
	defer server.Close()
	b := make([]byte, 64)
	for k.going() {
		server.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, from, err := server.ReadFromUDPAddrPort(b)
		if err != nil {
			continue
		}
		k.mu.Lock()
		k.from[from.String()] = true
		k.mu.Unlock()
		// One that is lost is asked for again.
		_, _ = server.WriteToUDPAddrPort(b[:n], from)
	}
}

func (k *talk) going() bool {
	select {
	case <-k.stop:
		return false
	default:
		return true
	}
}

// ask sends every 20 ms and notes the longest time without an answer.
func (k *talk) ask(near net.Conn) {
	defer near.Close()
	// An echo request; as the payload of a datagram it is as good as any.
	question, b := []byte{8, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 64)
	last := time.Now()
	for k.going() {
		_, err := near.Write(question)
		near.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if err == nil {
			_, err = near.Read(b)
		}
		k.mu.Lock()
		if gap := time.Since(last); gap > k.gap {
			k.gap = gap
		}
		switch {
		case err == nil:
			k.answered++
			last = time.Now()
		case !errors.Is(err, os.ErrDeadlineExceeded):
			k.err = err
		}
		k.mu.Unlock()
		time.Sleep(20 * time.Millisecond)
	}
}

// end judges the whole talk, while a flow beside stood still for so long at most.
func (k *talk) end(t *testing.T, beside time.Duration) error {
	k.close()
	k.mu.Lock()
	defer k.mu.Unlock()
	t.Logf("%s: %d answers, none for at most %v, seen from %v", k.kind, k.answered, k.gap, keys(k.from))
	if k.err != nil || k.answered < 50 {
		t.Errorf("%s: %d answers, error %v", k.kind, k.answered, k.err)
	}
	if from := keys(k.from); k.kind == "udp" && (len(k.from) != 1 || strings.HasSuffix(from, fmt.Sprintf(":%d", talkPort))) {
		t.Errorf("%s: the destination saw %v, want one address and a port of the egress's choice", k.kind, from)
	}
	return lab.InTime(k.kind+" without an answer", k.gap, beside, otherStall)
}

func keys(m map[string]bool) string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	return strings.Join(all, " ")
}
