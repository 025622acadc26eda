package link_test

import (
	"bytes"
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
)

func listen(t *testing.T, c link.Config) []link.Socket {
	t.Helper()
	sockets, err := link.Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, s := range sockets {
			_ = s.Close()
		}
	})
	return sockets
}

func TestListenSharesOnePort(t *testing.T) {
	sockets := listen(t, link.Config{Addr: netip.MustParseAddrPort("127.0.0.1:0"), Count: 3})
	if len(sockets) != 3 {
		t.Fatalf("%d sockets, want 3", len(sockets))
	}
	for _, s := range sockets {
		if s.LocalAddr() != sockets[0].LocalAddr() || s.LocalAddr().Port() == 0 {
			t.Errorf("bound to %v and %v", s.LocalAddr(), sockets[0].LocalAddr())
		}
	}
}

func TestListenRefuses(t *testing.T) {
	local := netip.MustParseAddrPort("127.0.0.1:0")
	for _, c := range []link.Config{
		{}, {Addr: local, Count: -1}, {Addr: local, Count: link.MaxSockets + 1},
	} {
		if _, err := link.Listen(c); !errors.Is(err, link.ErrConfig) {
			t.Errorf("%+v: %v, want ErrConfig", c, err)
		}
	}
	_, err := link.Listen(link.Config{Addr: netip.MustParseAddrPort("192.0.2.77:0")})
	if err == nil || !strings.Contains(err.Error(), "ip address") {
		t.Errorf("foreign address: %v, want a hint at what to run", err)
	}
	if _, err := link.Listen(link.Config{Addr: local, Device: "nosuchdevice"}); err == nil {
		t.Error("bound to a device that does not exist")
	}
}

func run(t *testing.T, command string) {
	t.Helper()
	if out, err := exec.Command("sh", "-ec", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
}

// TestNoPortLeft: whoever runs out is told of what, and what is closed can be had again.
func TestNoPortLeft(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	run(t, "ip link set lo up; echo 40000 40003 > /proc/sys/net/ipv4/ip_local_port_range")
	g, err := link.NewGroup(1)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	local := netip.MustParseAddrPort("127.0.0.1:0")
	var last link.Sender
	for range 4 {
		if last, err = g.Open(local, func([]byte, link.Train) {}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = g.Open(local, nil); err == nil || !strings.Contains(err.Error(), "ip_local_port_range") {
		t.Errorf("a fifth of four ports: %v", err)
	}
	if err := last.Close(); err != nil {
		t.Fatal(err)
	}
	if again, err := g.Open(local, func([]byte, link.Train) {}); err != nil || again.LocalAddr() != last.LocalAddr() {
		t.Errorf("the port that is free again: %v", err)
	}
	run(t, "echo 30000 50000 > /proc/sys/net/ipv4/ip_local_port_range")
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = 1
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	_, err = g.Open(local, nil)
	if back := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); back != nil {
		t.Fatal(back)
	}
	if err == nil || !strings.Contains(err.Error(), "LimitNOFILE") {
		t.Errorf("without descriptors: %v", err)
	}
}

// A segment above the MTU is ErrTooBig and costs the socket nothing: smaller
// trains still go out in one call each.
func TestTooBig(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	run(t, "ip link set lo mtu 1500 up")
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		c := link.Config{Addr: netip.MustParseAddrPort(addr)}
		a, b := listen(t, c)[0], listen(t, c)[0]
		path := link.Path{Remote: b.LocalAddr()}
		for _, n := range []int{1600, 4800} {
			if err := a.Send(make([]byte, n), 1600, path); !errors.Is(err, link.ErrTooBig) {
				t.Errorf("%s: %d bytes by 1600: %v, want ErrTooBig", addr, n, err)
			}
		}
		want := bytes.Repeat([]byte("train"), 2000)
		if err := a.Send(want, 1000, path); err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, link.MaxTrain)
		train, err := b.Receive(buffer)
		if err != nil || train.Len != len(want) || train.Segment != 1000 {
			t.Errorf("%s: received %+v, %v: not one train of %d", addr, train, err, len(want))
		}
	}
}

// A socket that may fragment sends what the link does not take in fragments,
// and still sends trains of what it takes.
func TestFragment(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	run(t, "ip link set lo mtu 1500 up")
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		c := link.Config{Addr: netip.MustParseAddrPort(addr), Fragment: true}
		a, b := listen(t, c)[0], listen(t, c)[0]
		path := link.Path{Remote: b.LocalAddr()}
		buffer := make([]byte, link.MaxTrain)
		for _, segment := range []int{4000, 1000} {
			want := bytes.Repeat([]byte("train"), 1600)
			if err := a.Send(want, segment, path); err != nil {
				t.Fatal(err)
			}
			var got []byte
			for len(got) < len(want) {
				train, err := b.Receive(buffer)
				if err != nil {
					t.Fatal(err)
				}
				if segment == 1000 && train.Len != len(want) {
					t.Errorf("%s: a train of %d bytes arrived as one of %d", addr, len(want), train.Len)
				}
				got = append(got, buffer[:train.Len]...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s: received other bytes", addr)
			}
		}
	}
}

func TestMark(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	run(t, `ip link set lo up
		ip rule add fwmark 77 table 77
		ip route add blackhole default table 77
		ip rule add fwmark 78 table local pref 1`)
	remote := listen(t, link.Config{Addr: netip.MustParseAddrPort("127.0.0.1:0")})[0]
	run(t, "ip rule del pref 0; ip rule add pref 40000 table local")
	any := netip.MustParseAddrPort("0.0.0.0:0")
	for mark, reachable := range map[int]bool{77: false, 78: true} {
		s := listen(t, link.Config{Addr: any, Mark: mark})[0]
		err := s.Send([]byte("x"), 0, link.Path{Remote: remote.LocalAddr()})
		if (err == nil) != reachable {
			t.Errorf("mark %d: %v", mark, err)
		}
	}
}

func TestDevice(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	run(t, `ip link set lo up
		ip link add veth0 type veth peer name veth1
		ip link set veth0 up
		ip address add 192.0.2.1/24 dev veth0`)
	sockets := listen(t, link.Config{Addr: netip.MustParseAddrPort("0.0.0.0:0"), Device: "veth0", Count: 2}) // a shared port
	from := listen(t, link.Config{Addr: netip.MustParseAddrPort("0.0.0.0:0")})[0]
	port := sockets[0].LocalAddr().Port()
	// The packet to our own address comes by lo, so the socket must not see it.
	own := netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port)
	other := listen(t, link.Config{Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), port)})[0]
	if err := from.Send([]byte("by lo"), 0, link.Path{Remote: own}); err != nil {
		t.Fatal(err)
	}
	if train, err := other.Receive(make([]byte, 99)); err != nil || train.Len != 5 {
		t.Errorf("received %+v, %v", train, err)
	}
}
