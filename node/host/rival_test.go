package host

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
)

// TestRivalIsHeard: another host that says to have an address of this one is named to
// whoever decides, in both families; what it says of other addresses is not.
func TestRivalIsHeard(t *testing.T) {
	if !isolate(t) {
		return
	}
	enter := peer(t)
	four, six := netip.MustParseAddr("10.1.0.100"), netip.MustParseAddr("fd01::100")
	var mu sync.Mutex
	heard := map[netip.Addr]int{}
	count := func(a netip.Addr) int {
		mu.Lock()
		defer mu.Unlock()
		return heard[a]
	}
	config := nodeConfig(t.TempDir())
	config.Rival = func(a netip.Addr) {
		mu.Lock()
		defer mu.Unlock()
		heard[a]++
	}
	n := prepareNode(t, config)
	openTUN(t)
	if err := n.Up(); err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{four, six} {
		if err := n.HoldAddress(a); err != nil {
			t.Fatal(err)
		}
	}
	run(t, enter+"ping -c 1 -W 5 10.1.0.100")
	run(t, enter+"ping -6 -c 1 -w 10 fd01::100")
	if count(four)+count(six) != 0 {
		t.Errorf("a neighbour that asks is a rival: %v", heard)
	}
	run(t, enter+"sysctl -qw net.ipv6.conf.inside0.ndisc_notify=1")
	run(t, enter+"ip address add 10.1.0.100/32 dev inside0")
	run(t, enter+"ip address add fd01::100/128 dev inside0 nodad")
	speak := func() { // nobody answers: this host has the address too
		run(t, enter+"ip neigh flush dev inside0")
		run(t, enter+"ping -c 1 -W 1 -I 10.1.0.100 10.1.0.1 || true")
	}
	eventually(t, "a rival in IPv4", func() error {
		speak()
		if count(four) == 0 {
			return fmt.Errorf("none heard")
		}
		return nil
	})
	eventually(t, "a rival in IPv6", func() error {
		run(t, enter+"ip link set inside0 address 02:00:00:00:00:98")
		run(t, enter+"ip link set inside0 address 02:00:00:00:00:99")
		if count(six) == 0 {
			return fmt.Errorf("none heard")
		}
		return nil
	})
	if err := n.ReleaseAddress(four); err != nil {
		t.Fatal(err)
	}
	before := count(four)
	speak()
	if count(four) != before || len(heard) != 2 {
		t.Errorf("heard of what is not held: %v", heard)
	}
}

func TestParseARP(t *testing.T) {
	mac, a := net.HardwareAddr{2, 0, 0, 0, 0, 9}, netip.MustParseAddr("10.1.0.100")
	if sender, from, ok := parseARP(announceFrame(mac, a)); !ok || sender != a || from.String() != mac.String() {
		t.Errorf("%v, %v, %v", sender, from, ok)
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"short":               func(b []byte) []byte { return b[:27] },
		"no Ethernet":         func(b []byte) []byte { b[1] = 6; return b },
		"no IPv4":             func(b []byte) []byte { b[2] = 0x86; return b },
		"longer addresses":    func(b []byte) []byte { b[4] = 8; return b },
		"who asks is it free": func(b []byte) []byte { clear(b[14:18]); return b },
	} {
		if _, _, ok := parseARP(spoil(announceFrame(mac, a))); ok {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestParseAdvertisement(t *testing.T) {
	mac, a := net.HardwareAddr{2, 0, 0, 0, 0, 9}, netip.MustParseAddr("fd01::100")
	if target, from, ok := parseAdvertisement(advertise(mac, a, flagOverride)); !ok || target != a || from.String() != mac.String() {
		t.Errorf("%v, %v, %v", target, from, ok)
	}
	for name, spoil := range map[string]func([]byte) []byte{
		"solicitation":     func(b []byte) []byte { b[0] = solicitation; return b },
		"code":             func(b []byte) []byte { b[1] = 1; return b },
		"short":            func(b []byte) []byte { return b[:23] },
		"no link address":  func(b []byte) []byte { return b[:24] },
		"empty option":     func(b []byte) []byte { b[25] = 0; return b },
		"multicast target": func(b []byte) []byte { b[8] = 0xff; return b },
	} {
		if _, _, ok := parseAdvertisement(spoil(advertise(mac, a, flagOverride))); ok {
			t.Errorf("%s is taken", name)
		}
	}
}

// FuzzARP: nothing panics, and what is understood stands where RFC 826 puts it.
func FuzzARP(f *testing.F) {
	f.Add(announceFrame(net.HardwareAddr{2, 0, 0, 0, 0, 9}, netip.MustParseAddr("10.1.0.100")))
	f.Add([]byte{0, 1, 8, 0, 6, 4})
	f.Fuzz(func(t *testing.T, b []byte) {
		if sender, mac, ok := parseARP(b); ok && (netip.AddrFrom4([4]byte(b[14:18])) != sender || len(mac) != 6) {
			t.Fatalf("%x: %v, %v", b, sender, mac)
		}
	})
}

// FuzzAdvertisement: nothing panics, and the target stands where RFC 4861 puts it.
func FuzzAdvertisement(f *testing.F) {
	f.Add(advertise(net.HardwareAddr{2, 0, 0, 0, 0, 9}, netip.MustParseAddr("fd01::100"), flagOverride))
	f.Add([]byte{advertisement, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if target, mac, ok := parseAdvertisement(b); ok && (netip.AddrFrom16([16]byte(b[8:24])) != target || len(mac) != 6) {
			t.Fatalf("%x: %v, %v", b, target, mac)
		}
	})
}
