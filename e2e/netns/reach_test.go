//go:build e2e

package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/e2e/netns/lab"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	hostpkg "github.com/meshcrypt/meshcrypt/node/host"
)

// Addresses that nobody was offered, beside those of the nodes themselves.
const (
	neighbour = "10.20.0.101" // beside the destination
	behind    = "10.30.0.1"   // in a network behind it
)

// spot is an address, and the host that answers there.
type spot struct {
	at    *lab.Space
	where string
}

// beyond gives the destination an address beside its own, and a network behind
// it that every node has a route to.
func (m *mesh) beyond() {
	m.Helper()
	m.dest.Sh("ip address add %s/24 dev in; ip address add %s/24 dev lo", neighbour, behind)
	for _, n := range m.nodes {
		n.Sh("ip route add 10.30.0.0/24 via %s", destination)
	}
}

// everywhere is whatever the kernels of the nodes can reach.
func (m *mesh) everywhere() []spot {
	all := []spot{{m.dest, destination}, {m.dest, neighbour}, {m.dest, behind}}
	for _, n := range m.nodes {
		all = append(all, spot{n.Space, n.inside}, spot{n.Space, n.outer})
	}
	return all
}

// admitWith registers the user with networks of her own.
func (m *mesh) admitWith(prefixes ...string) {
	m.Helper()
	args := []string{"client", "add", user, "--password-file", m.passwordFile()}
	for _, p := range prefixes {
		args = append(args, "--prefix", p)
	}
	m.nodes[0].must(args...)
	m.profile = m.Write(m.nodes[0].must("client", "profile", user), "profile.toml")
}

// stray sends a client's packets for every spot into its tunnel, whatever the
// mesh has offered, and gives the spots that answered in time. All are asked at
// once: those that are not reached say nothing.
func (m *mesh) stray(spots []spot) (reached []string) {
	m.Helper()
	var targets []netip.AddrPort
	for _, s := range spots {
		m.client.Sh("ip route replace %s/32 dev mesh0 table %d", s.where, hostpkg.DefaultTable)
		err := s.at.Do(func() error {
			l, err := net.Listen("tcp4", net.JoinHostPort(s.where, "0"))
			if err == nil {
				m.Cleanup(func() { l.Close() })
				targets = append(targets, l.Addr().(*net.TCPAddr).AddrPort())
			}
			return err
		})
		if err != nil {
			m.Fatalf("%v", err)
		}
	}
	if err := m.client.Do(func() (err error) { reached, err = answering(targets, strayTime); return err }); err != nil {
		m.Fatalf("%v", err)
	}
	slices.Sort(reached)
	return reached
}

// strayTime is long enough for a second try of whatever was lost.
const strayTime = 1500 * time.Millisecond

// answering connects to all targets at once and gives those that answered.
func answering(targets []netip.AddrPort, within time.Duration) (reached []string, err error) {
	var polls []unix.PollFd
	for _, t := range targets {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(t.Port()), Addr: t.Addr().As4()}); err != nil && err != unix.EINPROGRESS {
			return nil, fmt.Errorf("%v: %w", t, err)
		}
		polls = append(polls, unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT})
	}
	time.Sleep(within)
	if _, err := unix.Poll(polls, 0); err != nil {
		return nil, err
	}
	for i, p := range polls {
		if p.Revents&(unix.POLLOUT|unix.POLLERR|unix.POLLHUP) == unix.POLLOUT {
			reached = append(reached, targets[i].Addr().String())
		}
	}
	return reached, nil
}

// notAllowed is what the nodes dropped because a client may not reach it.
func (m *mesh) notAllowed() uint64 { return m.drops()[dataplane.DropNotAllowed.String()] }

// onlyReaches holds that of all there is a client reaches just what she was
// given, and that the rest was counted, flagged, and shown.
func (m *mesh) onlyReaches(want ...string) {
	m.Helper()
	before := m.notAllowed()
	if got := m.stray(m.everywhere()); !slices.Equal(got, want) {
		m.t.Errorf("the client reaches %v, want %v", got, want)
	}
	refused := len(m.everywhere()) - len(want)
	if more := m.notAllowed() - before; more < uint64(refused) {
		m.t.Errorf("%d packets dropped as not allowed, for %d addresses", more, refused)
	}
	m.Until("the violation is flagged and the session shows it", 10*time.Second, func() error {
		members, err := m.members()
		flagged := func(n control.Member) bool {
			return slices.ContainsFunc(n.Violations, func(v control.Violation) bool { return v.Reason == dataplane.DropNotAllowed.String() })
		}
		if err != nil || !slices.ContainsFunc(members, flagged) {
			return fmt.Errorf("not flagged: %+v, %w", members, err)
		}
		if s, err := m.session(); err != nil || s.NotAllowed == 0 {
			return fmt.Errorf("not shown: %+v, %w", s, err)
		}
		return nil
	})
}

// TestReach: a client of one host reaches that host alone, whatever routes she
// adds: not its neighbour, not a network behind it, not a node, not its outer
// address. Neither do others reach her, save for errors about what she sent. What
// she may reach follows the operator's word within seconds.
func TestReach(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2)
	m.beyond()
	m.up()
	m.admitWith(destination + "/32")
	m.connect()
	m.onlyReaches(destination)
	m.onlyReachedBy()
	m.nodes[0].must("client", "add", user, "--replace", "--prefix", neighbour+"/32", "--prefix", m.nodes[1].outer+"/32")
	m.Until("other networks", 5*time.Second, func() error {
		if got, want := m.stray(m.everywhere()), []string{neighbour, m.nodes[1].outer}; !slices.Equal(got, want) {
			return fmt.Errorf("reached %v, want %v", got, want)
		}
		return nil
	})
}

// onlyReachedBy holds that datagrams reach the client from what it may reach, and
// from nobody else; and that a router's error about its own packet does.
func (m *mesh) onlyReachedBy() {
	m.Helper()
	s, err := m.session()
	if err != nil {
		m.Fatalf("%v", err)
	}
	var near net.PacketConn
	if err := m.client.Do(func() (err error) {
		near, err = net.ListenPacket("udp4", net.JoinHostPort(s.Leases[0].String(), "0"))
		return err
	}); err != nil {
		m.Fatalf("%v", err)
	}
	defer near.Close()
	for from, want := range map[string]bool{destination: true, neighbour: false} {
		if got := m.tells(from, near); got != want {
			m.t.Errorf("a datagram from %s reached the client: %v", from, got)
		}
	}
	if err := m.client.Do(expires); !errors.Is(err, unix.EHOSTUNREACH) {
		m.t.Errorf("a packet that dies at the first router: %v, want its word", err)
	}
}

// tells sends a few datagrams to the client from an address of the destination.
func (m *mesh) tells(from string, near net.PacketConn) bool {
	m.Helper()
	err := m.dest.Do(func() error {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
		far, err := d.Dial("udp4", near.LocalAddr().String())
		if err != nil {
			return err
		}
		defer far.Close()
		for range 5 {
			if _, err := far.Write([]byte(from)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		m.Fatalf("%v", err)
	}
	near.SetReadDeadline(time.Now().Add(time.Second))
	b := make([]byte, 64)
	for {
		n, _, err := near.ReadFrom(b)
		if err != nil || string(b[:n]) == from {
			return err == nil
		}
	}
}

// expires sends to the destination what the first router has to give up, and
// gives what the kernel heard of it.
func expires() error {
	c, err := net.Dial("udp4", net.JoinHostPort(destination, "9"))
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 1),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1))
	})
	if err = errors.Join(err, set); err != nil {
		return err
	}
	for range 10 {
		if _, err := c.Write([]byte("short-lived")); err != nil {
			return err
		}
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err = c.Read(make([]byte, 64)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return syscall.ETIMEDOUT
}

// TestReachPeer: a tunnel to one node leads to nothing else.
func TestReachPeer(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2)
	m.beyond()
	m.up()
	m.admit()
	peer := m.nodes[1]
	m.client.start("connect", "--run-dir", m.File("client", "run"), "--profile", m.profile, "--user", user,
		"--password-file", m.passwordFile(), "--peer", peer.Name)
	m.Until("a connection to "+peer.Name, 20*time.Second, func() error {
		if r := m.client.Try(nil, "ip", "route", "get", peer.inside); !strings.Contains(r.Out, "dev mesh0") {
			return notYet(r)
		}
		return m.Reach(m.client.Space, peer.Space, peer.inside)
	})
	m.onlyReaches(peer.inside)
}

// TestReachUserspace: nodes without a TUN hold a client to her own networks as
// well, though the mesh offers more.
func TestReachUserspace(t *testing.T) {
	t.Parallel()
	m := newMesh(t, 2)
	m.beyond()
	m.userspace("--push", "10.20.0.0/24")
	m.admitWith(destination + "/32")
	m.connect()
	m.onlyReaches(destination)
}

// userspace is up for nodes without a TUN.
func (m *mesh) userspace(more ...string) {
	m.Helper()
	place := func(n *host) []string {
		return []string{"--userspace", "--name", n.Name, "--inside", n.inside, "--listen", n.at(dualStack)}
	}
	first := m.nodes[0]
	r := first.try(append(append([]string{"init"}, place(first)...), more...)...)
	if m.token = tokenForm.FindString(r.Out + r.Stderr); r.Code != 0 || m.token == "" {
		m.Fatalf("init: exit %d and no token\n%s%s", r.Code, r.Out, r.Stderr)
	}
	first.start("run")
	m.ready(1)
	for i, n := range m.nodes[1:] {
		n.start(append([]string{"join", first.at(n.families), "--token-file", m.tokenFile()}, place(n)...)...)
		m.ready(i + 2)
	}
}
