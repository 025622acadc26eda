package tun_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

func run(t *testing.T, command string) string {
	t.Helper()
	out, err := exec.Command("sh", "-ec", command).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	return string(out)
}

func open(t *testing.T, queues, mtu int) tun.Device {
	t.Helper()
	d, err := tun.Open("mesh%d", queues, mtu)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	run(t, "sysctl -qw net.ipv6.conf.all.disable_ipv6=1; ip address add 10.9.0.1/24 dev "+d.Name())
	return d
}

// readUDP reads until the packet is UDP over IPv4.
func readUDP(t *testing.T, q tun.Queue) (tun.VnetHeader, []byte) {
	t.Helper()
	b := make([]byte, tun.HeaderLen+tun.MaxPacket)
	for {
		n, err := q.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		if p := b[tun.HeaderLen:n]; len(p) > 28 && p[0] == 0x45 && p[9] == 17 {
			return tun.Decode(b), p
		}
	}
}

func TestOpenSetsUp(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := open(t, 3, 1380)
	if d.Name() != "mesh0" || len(d.Queues()) != 3 {
		t.Errorf("device %q with %d queues", d.Name(), len(d.Queues()))
	}
	shown := run(t, "ip -d link show mesh0")
	for _, want := range []string{"mtu 1380", ",UP", "multi_queue", "vnet_hdr"} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %q in %s", want, shown)
		}
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if out := run(t, "ip link"); strings.Contains(out, "mesh0") {
		t.Errorf("the interface outlived its device: %s", out)
	}
}

// The host's packets come out, packets written go in, by both directions of
// one UDP exchange.
func TestPacketsCross(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := open(t, 1, 1400)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 9, 0, 1), Port: 5000})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.WriteTo([]byte("ping"), &net.UDPAddr{IP: net.IPv4(10, 9, 0, 2), Port: 6000}); err != nil {
		t.Fatal(err)
	}
	h, p := readUDP(t, d.Queues()[0])
	if string(p[28:]) != "ping" || h.GSOType != tun.GSONone {
		t.Errorf("read %+v %q", h, p[28:])
	}
	reply := turn(p)
	copy(reply[28:], "pong")
	header := make([]byte, tun.HeaderLen)
	if err := d.Queues()[0].Write([][]byte{header, reply[:20], reply[20:]}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, from, err := conn.ReadFromUDPAddrPort(b)
	if err != nil || string(b[:n]) != "pong" || from != netip.MustParseAddrPort("10.9.0.2:6000") {
		t.Errorf("host received %q from %v, %v", b[:n], from, err)
	}
}

// turn swaps both ends of an IPv4 UDP packet; without a checksum.
func turn(p []byte) []byte {
	r := bytes.Clone(p)
	copy(r[12:16], p[16:20])
	copy(r[16:20], p[12:16])
	copy(r[20:22], p[22:24])
	copy(r[22:24], p[20:22])
	binary.BigEndian.PutUint16(r[26:], 0)
	return r
}

// Trains of the host come out as one super-packet and go in as one.
func TestSuperPacketsStayWhole(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := open(t, 1, 1400)
	sockets, err := link.Listen(link.Config{Addr: netip.MustParseAddrPort("10.9.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	defer sockets[0].Close()
	away := link.Path{Remote: netip.MustParseAddrPort("10.9.0.2:6000")}
	if err := sockets[0].Send(make([]byte, 3000), 1000, away); err != nil {
		t.Fatal(err)
	}
	if h, p := readUDP(t, d.Queues()[0]); len(p) != 3028 || h.GSOType != tun.GSOUDPL4 || h.GSOSize != 1000 {
		t.Errorf("the host's train came out as %d bytes, %+v", len(p), h)
	}
	// A super-packet of three UDP datagrams, written by us, arrives as three.
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 9, 0, 1), Port: 5000})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := d.Queues()[0].Write([][]byte{superHeader(), superPacket("aaaabbbbcc")}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	for _, want := range []string{"aaaa", "bbbb", "cc"} {
		if n, err := conn.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("host received %q, %v, want %q", b[:n], err, want)
		}
	}
}

func superHeader() []byte {
	b := make([]byte, tun.HeaderLen)
	tun.VnetHeader{
		Flags: tun.FlagNeedsCsum, GSOType: tun.GSOUDPL4,
		HdrLen: 28, GSOSize: 4, CsumStart: 20, CsumOffset: 6,
	}.Encode(b)
	return b
}

// superPacket is 10.9.0.2:6000 to 10.9.0.1:5000.
func superPacket(payload string) []byte {
	p := make([]byte, 28, 28+len(payload))
	p[0], p[8], p[9] = 0x45, 64, 17
	copy(p[12:], []byte{10, 9, 0, 2, 10, 9, 0, 1})
	binary.BigEndian.PutUint16(p[2:], uint16(28+len(payload)))
	binary.BigEndian.PutUint16(p[20:], 6000)
	binary.BigEndian.PutUint16(p[22:], 5000)
	binary.BigEndian.PutUint16(p[24:], uint16(8+len(payload)))
	binary.BigEndian.PutUint16(p[10:], ^fold(p[:20], 0))
	// The checksum field holds the pseudo header's sum (virtio 1.2, 5.1.6.2).
	binary.BigEndian.PutUint16(p[26:], fold(p[12:20], uint32(17+8+len(payload))))
	return append(p, payload...)
}

func fold(b []byte, sum uint32) uint16 {
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// TryRead gives what waits, and does not wait itself.
func TestTryRead(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := open(t, 1, 1400)
	q, b := d.Queues()[0], make([]byte, tun.HeaderLen+tun.MaxPacket)
	drain := func() (last int) {
		for {
			n, err := q.TryRead(b)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				return last
			}
			last = n
		}
	}
	drain()
	conn, err := net.Dial("udp4", "10.9.0.2:6000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if n := drain(); n != tun.HeaderLen+32 {
		t.Errorf("read %d bytes", n)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := q.TryRead(b); !errors.Is(err, tun.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestCloseWakesReaders(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	for range 5 {
		d := open(t, 2, 1400)
		done := make(chan error, 2)
		for _, q := range d.Queues() {
			go func() {
				b := make([]byte, tun.HeaderLen+tun.MaxPacket)
				for {
					if _, err := q.Read(b); err != nil {
						done <- err
						return
					}
				}
			}()
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := <-done; !errors.Is(err, tun.ErrClosed) {
				t.Fatalf("Read returned %v, want ErrClosed", err)
			}
		}
		if err := d.Queues()[0].Write([][]byte{make([]byte, 10)}); !errors.Is(err, tun.ErrClosed) {
			t.Errorf("Write returned %v, want ErrClosed", err)
		}
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := open(t, 1, 1400)
	conn, err := net.Dial("udp4", "10.9.0.2:6000")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	q, b := d.Queues()[0], make([]byte, tun.HeaderLen+tun.MaxPacket)
	pieces := [][]byte{superHeader(), superPacket("aaaabbbbcc")}
	payload := []byte("ping")
	if allocs := testing.AllocsPerRun(100, func() {
		if _, err := conn.Write(payload); err != nil {
			t.Fatal(err)
		}
		if _, err := q.Read(b); err != nil {
			t.Fatal(err)
		}
		if err := q.Write(pieces); err != nil {
			t.Fatal(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, c := range []struct {
		name        string
		queues, mtu int
	}{
		{"", 1, 1400}, {"sixteen-letters-", 1, 1400}, {"a", 0, 1400}, {"a", tun.MaxQueues + 1, 1400},
		{"a", 1, tun.MinMTU - 1}, {"a", 1, tun.MaxPacket + 1},
	} {
		if _, err := tun.Open(c.name, c.queues, c.mtu); !errors.Is(err, tun.ErrConfig) {
			t.Errorf("%+v: %v, want ErrConfig", c, err)
		}
	}
}

func TestOpenNamesTheCause(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	run(t, "ip tuntap add dev other mode tap")
	_, err := tun.Open("other", 1, 1400)
	if err == nil || !strings.Contains(err.Error(), "ip link delete other") {
		t.Errorf("existing TAP: %v", err)
	}
	d := open(t, 1, 1400)
	if err := d.Queues()[0].Write(make([][]byte, tun.MaxPieces+1)); !errors.Is(err, tun.ErrConfig) {
		t.Errorf("too many pieces: %v", err)
	}
	run(t, "ip link add blocked type veth peer name other1")
	if _, err := tun.Open("blocked", 1, 1400); err == nil || !strings.Contains(err.Error(), "blocked") {
		t.Errorf("existing veth: %v", err)
	}
}

// An interface that somebody else removed never comes back.
func TestRemoved(t *testing.T) {
	if !linktest.Isolate(t) {
		return
	}
	d := open(t, 1, 1400)
	done := make(chan error)
	go func() {
		b := make([]byte, tun.HeaderLen+tun.MaxPacket)
		for {
			if _, err := d.Queues()[0].Read(b); err != nil {
				done <- err
				return
			}
		}
	}()
	run(t, "ip link del "+d.Name())
	if err := <-done; !errors.Is(err, tun.ErrRemoved) {
		t.Errorf("Read returned %v, want ErrRemoved", err)
	}
}
