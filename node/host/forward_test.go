package host

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

// echo is an ICMP echo request behind an empty offload header.
func echo(from, to string) []byte {
	b := make([]byte, tun.HeaderLen+28)
	p := b[tun.HeaderLen:]
	p[0], p[3], p[8], p[9] = 0x45, 28, 64, 1
	copy(p[12:], netip.MustParseAddr(from).AsSlice())
	copy(p[16:], netip.MustParseAddr(to).AsSlice())
	p[20] = 8
	binary.BigEndian.PutUint16(p[10:], checksum(p[:20]))
	binary.BigEndian.PutUint16(p[22:], checksum(p[20:28]))
	return b
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	return ^uint16(sum>>16 + sum)
}

// reply reads from the TUN until an echo reply comes and returns its ends.
func reply(t *testing.T, q tun.Queue) (from, to netip.Addr) {
	t.Helper()
	b := make([]byte, tun.HeaderLen+tun.MaxPacket)
	for {
		n, err := q.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if p := b[tun.HeaderLen:n]; len(p) >= 28 && p[0] == 0x45 && p[9] == 1 && p[20] == 0 {
			return netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
		}
	}
}

// A lease reaches the inside network and is answered, with strict filters
// elsewhere on the host; a packet from or to anywhere else is dropped.
func TestForwardsLeaseToInsideOnly(t *testing.T) {
	if !isolate(t) {
		return
	}
	enter := peer(t)
	run(t, "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.inside0.rp_filter=1")
	run(t, enter+"ip route add 10.99.0.0/16 via 10.1.0.1")
	n := prepareNode(t, nodeConfig(t.TempDir()))
	q := openTUN(t).Queues()[0]
	// Without an address on the TUN the reverse path filter alone refuses what
	// comes from no lease.
	if err := errors.Join(n.Up(), n.HoldAddress(netip.MustParseAddr("10.1.0.100"))); err != nil {
		t.Fatal(err)
	}
	send := func(from, to string) {
		if err := q.Write([][]byte{echo(from, to)}); err != nil {
			t.Fatal(err)
		}
	}
	send("10.99.0.5", "10.1.0.2")
	if from, to := reply(t, q); from.String() != "10.1.0.2" || to.String() != "10.99.0.5" {
		t.Errorf("answer from %v to %v", from, to)
	}
	send("10.99.0.5", "198.51.100.2") // out of the inside network
	send("10.98.0.5", "10.1.0.2")     // not a lease
	send("10.99.0.5", "10.99.0.6")    // back into the tunnel
	want := `iifname "tun0" counter packets 3 bytes 84 drop`
	for range 100 {
		if strings.Contains(run(t, "nft list chain inet meshcrypt forward"), want) {
			return
		}
	}
	t.Errorf("no %q in %s", want, run(t, "nft list chain inet meshcrypt forward"))
}

// datagram is UDP of a lease behind an empty offload header.
func datagram(from, to netip.AddrPort) []byte {
	b := make([]byte, tun.HeaderLen+28)
	p := b[tun.HeaderLen:]
	p[0], p[3], p[8], p[9] = 0x45, 28, 64, 17
	copy(p[12:], from.Addr().AsSlice())
	copy(p[16:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(p[10:], checksum(p[:20]))
	binary.BigEndian.PutUint16(p[20:], from.Port())
	binary.BigEndian.PutUint16(p[22:], to.Port())
	p[25] = 8 // length; no checksum (RFC 768)
	return b
}

// TestAnswersUDP is the far end of TestMasqueradedPortsAreAnswered, in its namespace.
func TestAnswersUDP(t *testing.T) {
	ports := os.Getenv("ANSWERS_UDP")
	if ports == "" {
		return
	}
	for _, at := range strings.Fields(ports) {
		s, err := net.ListenPacket("udp", at)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			b := make([]byte, 100)
			for {
				n, from, err := s.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = s.WriteTo(b[:n], from) // who waits says so
			}
		}()
	}
	fmt.Println("ready")
	select {}
}

// answering starts that far end.
func answering(t *testing.T, enter string, at ...string) {
	t.Helper()
	far := exec.Command("sh", "-c", "exec "+enter+os.Args[0]+" -test.run='^TestAnswersUDP$'")
	far.Env = append(os.Environ(), "ANSWERS_UDP="+strings.Join(at, " "))
	far.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := far.StdoutPipe()
	if err == nil {
		err = far.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = far.Process.Kill()
		_ = far.Wait()
	})
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the far end said %q", line)
	}
}

// TestMasqueradedPortsAreAnswered: what a client says from or to the ports of nodes
// is answered, whether its lease is behind a moving address or this host's own.
func TestMasqueradedPortsAreAnswered(t *testing.T) {
	for name, behind := range map[string]string{"moving": "10.1.0.100", "own": ""} {
		t.Run(name, func(t *testing.T) {
			if !isolate(t) {
				return
			}
			answering(t, peer(t), "10.1.0.2:9", "10.1.0.2:6484", "10.1.0.2:6486")
			c := nodeConfig(t.TempDir())
			c.Masquerade, c.InsidePort = true, 6486
			n := prepareNode(t, c)
			q := openTUN(t).Queues()[0]
			err := errors.Join(n.Up(), n.HoldAddress(netip.MustParseAddr("10.1.0.100")))
			if behind != "" {
				err = errors.Join(err, n.Hide(netip.MustParsePrefix("10.99.0.0/16"), netip.MustParseAddr(behind)))
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, ends := range [][2]string{
				{"10.99.0.5:9", "10.1.0.2:9"}, {"10.99.0.5:9", "10.1.0.2:6484"}, {"10.99.0.5:9", "10.1.0.2:6486"},
				{"10.99.0.5:6484", "10.1.0.2:9"}, {"10.99.0.5:6486", "10.1.0.2:9"}, {"10.99.0.5:6484", "10.1.0.2:6484"},
			} {
				from, to := netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1])
				if err := q.Write([][]byte{datagram(from, to)}); err != nil {
					t.Fatal(err)
				}
				if !answered(q, to, from) {
					t.Errorf("%v to %v: no answer", from, to)
				}
			}
		})
	}
}

// answered reports whether a datagram comes within five seconds.
func answered(q tun.Queue, from, to netip.AddrPort) bool {
	found := make(chan bool, 1)
	go func() {
		b := make([]byte, tun.HeaderLen+tun.MaxPacket)
		for {
			n, err := q.Read(b)
			if err != nil {
				return
			}
			p := b[tun.HeaderLen:n]
			if len(p) >= 28 && p[0] == 0x45 && p[9] == 17 &&
				netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), binary.BigEndian.Uint16(p[20:])) == from &&
				netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), binary.BigEndian.Uint16(p[22:])) == to {
				found <- true
				return
			}
		}
	}()
	select {
	case <-found:
		return true
	case <-time.After(5 * time.Second):
		return false
	}
}

// Where leases are masqueraded, the ports of nodes are no way to leave with one: what
// is not tracked is not translated.
func TestMasqueradesOwnPortsToo(t *testing.T) {
	if !isolate(t) {
		return
	}
	enter := peer(t)
	run(t, enter+"nft 'add table ip seen; add chain ip seen in { type filter hook prerouting priority -300; }; "+
		"add rule ip seen in ip saddr 10.99.0.0/16 counter; add rule ip seen in udp length 8 ip saddr 10.1.0.1 counter'")
	c := nodeConfig(t.TempDir())
	c.Masquerade, c.InsidePort = true, 6486
	n := prepareNode(t, c)
	q := openTUN(t).Queues()[0]
	if err := errors.Join(n.Up(), n.HoldAddress(netip.MustParseAddr("10.1.0.100"))); err != nil {
		t.Fatal(err)
	}
	for _, ends := range [][2]string{{"10.99.0.5:6484", "10.1.0.2:9"}, {"10.99.0.5:6486", "10.1.0.2:9"}, {"10.99.0.5:9", "10.1.0.2:6484"}, {"10.99.0.5:9", "10.1.0.2:6486"}} {
		if err := q.Write([][]byte{datagram(netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[1]))}); err != nil {
			t.Fatal(err)
		}
	}
	var seen string
	for range 100 {
		if seen = run(t, enter+"nft list table ip seen"); strings.Contains(seen, "ip saddr 10.1.0.1 counter packets 4 ") {
			break
		}
	}
	if !strings.Contains(seen, "ip saddr 10.99.0.0/16 counter packets 0 ") || !strings.Contains(seen, "ip saddr 10.1.0.1 counter packets 4 ") {
		t.Errorf("the inside network saw: %s", seen)
	}
}
