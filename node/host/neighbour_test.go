package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The IPv6 twin of TestHoldAddress: an unsolicited advertisement moves the
// address here, questions are answered while it is held, and no longer.
func TestHoldAddressIPv6(t *testing.T) {
	if !isolate(t) {
		return
	}
	enter := peer(t)
	held := netip.MustParseAddr("fd01::100")
	config := nodeConfig(t.TempDir())
	config.Inside = netip.MustParseAddr("fd01::1")
	n := prepareNode(t, config)
	openTUN(t)
	if err := n.Up(); err != nil {
		t.Fatal(err)
	}
	run(t, enter+"ip neigh replace fd01::100 lladdr 02:00:00:00:00:99 dev inside0 nud reachable")
	if err := errors.Join(n.HoldAddress(held), n.HoldAddress(held)); err != nil {
		t.Fatal(err)
	}
	contains(t, "ip address show dev tun0", "fd01::100/128")
	contains(t, "ip -6 route get fd99::9", "src fd01::1") // this host's own answers, to a client
	eventually(t, "the neighbour is told", func() error {
		if out := run(t, enter+"ip neigh show fd01::100"); !strings.Contains(out, "router") || strings.Contains(out, "02:00:00:00:00:99") {
			return fmt.Errorf("it still has %q", out)
		}
		return nil
	})
	run(t, enter+"ip neigh flush dev inside0")
	run(t, enter+"ping -6 -c 1 -w 10 fd01::100") // asks first
	if err := errors.Join(n.ReleaseAddress(held), n.ReleaseAddress(held)); err != nil {
		t.Fatal(err)
	}
	lacks(t, "ip address show", "fd01::100")
	contains(t, "ip -6 route show fd99::/64", "dev tun0")
	run(t, enter+"ip neigh flush dev inside0")
	fails(t, enter+"ping -6 -c 1 -W 2 fd01::100")
}

// After kill -9 nobody answers any more: the second can have the address.
func TestHolderOfIPv6Killed(t *testing.T) {
	if !isolate(t) {
		return
	}
	enter := peer(t)
	kill := killed(t, "node", t.TempDir())
	run(t, enter+"ping -6 -c 1 -w 10 fd01::100")
	kill()
	run(t, enter+"ip neigh flush dev inside0")
	fails(t, enter+"ping -6 -c 1 -W 2 fd01::100")
	lacks(t, enter+"ip neigh show fd01::100", "lladdr")
}

// eventually asks until the answer is nil, for five seconds.
func eventually(t *testing.T, what string, ask func() error) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-late:
			t.Fatalf("%s: %v", what, err)
		default:
		}
	}
}

// solicit is a question for a, with the asker's link address.
func solicit(a netip.Addr) []byte {
	b := make([]byte, 32)
	b[0] = solicitation
	copy(b[8:], a.AsSlice())
	b[24], b[25] = 1, 1
	return b
}

func TestParseSolicitation(t *testing.T) {
	a := netip.MustParseAddr("fd01::100")
	if got, ok := parseSolicitation(solicit(a)); !ok || got != a {
		t.Errorf("%v, %v", got, ok)
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"advertisement":    func(b []byte) []byte { b[0] = advertisement; return b },
		"code":             func(b []byte) []byte { b[1] = 1; return b },
		"short":            func(b []byte) []byte { return b[:23] },
		"empty option":     func(b []byte) []byte { b[25] = 0; return b },
		"option too long":  func(b []byte) []byte { b[25] = 2; return b },
		"half an option":   func(b []byte) []byte { return b[:25] },
		"multicast target": func(b []byte) []byte { b[8] = 0xff; return b },
	} {
		if _, ok := parseSolicitation(spoil(solicit(a))); ok {
			t.Errorf("%s is taken", name)
		}
	}
}

// FuzzSolicitation: nothing panics, and what is understood names a target that
// stands where RFC 4861 puts it.
func FuzzSolicitation(f *testing.F) {
	f.Add(solicit(netip.MustParseAddr("fd01::100")))
	f.Add(solicit(netip.MustParseAddr("fe80::1"))[:24])
	f.Add([]byte{solicitation, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		target, ok := parseSolicitation(b)
		if ok && string(b[8:24]) != string(target.AsSlice()) {
			t.Errorf("%x gives %v", b, target)
		}
	})
}

func TestAdvertise(t *testing.T) {
	got := advertise(net.HardwareAddr{2, 0, 0, 0, 0, 1}, netip.MustParseAddr("fd01::100"), flagRouter|flagOverride)
	want := "88000000" + "a0000000" + "fd010000000000000000000000000100" + "0201" + "020000000001"
	if fmt.Sprintf("%x", got) != want {
		t.Errorf("%x, want %s", got, want)
	}
	if group := solicitedNode(netip.MustParseAddr("fd01::1:2345:6789")); group.String() != "ff02::1:ff45:6789" {
		t.Errorf("group %v", group)
	}
}

// Only what comes with the full hop limit was sent on this link.
func TestArrivedHops(t *testing.T) {
	message := make([]byte, unix.CmsgSpace(4))
	message[0] = byte(unix.CmsgLen(4))
	message[8], message[12], message[16] = unix.SOL_IPV6, unix.IPV6_HOPLIMIT, hopLimit
	if got := arrivedHops(message); got != hopLimit {
		t.Errorf("%d", got)
	}
	for _, other := range [][]byte{nil, message[:10], make([]byte, 24)} {
		if got := arrivedHops(other); got == hopLimit {
			t.Errorf("%x gives %d", other, got)
		}
	}
}
