package host

import (
	"net/netip"
	"testing"
)

// advertised is an advertisement with these options.
func advertised(options ...byte) []byte {
	target := netip.MustParseAddr("fd01::100").As16()
	return append(append([]byte{advertisement, 0, 0, 0, 0x20, 0, 0, 0}, target[:]...), options...)
}

// TestAdvertisementsOfStrangers: anybody on the inside network sends what he likes; what
// is cut short or lies about its length says nothing.
func TestAdvertisementsOfStrangers(t *testing.T) {
	mac := []byte{optionTargetLink, 1, 2, 0, 0, 0, 0, 9}
	good := advertised(mac...)
	if target, from, ok := parseAdvertisement(good); !ok || target != netip.MustParseAddr("fd01::100") || from.String() != "02:00:00:00:00:09" {
		t.Errorf("%v %v %v", target, from, ok)
	}
	for size := range good {
		if _, _, ok := parseAdvertisement(good[:size]); ok {
			t.Errorf("%d bytes are an advertisement", size)
		}
	}
	for name, b := range map[string][]byte{
		"an option without length":       advertised(append([]byte{14, 0}, mac...)...),
		"one longer than the message":    advertised(append(mac, 14, 255, 0, 0, 0, 0, 0, 0)...),
		"an address of another length":   advertised(append([]byte{optionTargetLink, 2, 2, 0, 0, 0, 0, 9}, make([]byte, 8)...)...),
		"a code that there is none":      append([]byte{advertisement, 1}, good[2:]...),
		"a group, which nobody can have": append([]byte{advertisement, 0, 0, 0, 0x20, 0, 0, 0, 0xff}, good[9:]...),
	} {
		if _, _, ok := parseAdvertisement(b); ok {
			t.Errorf("%s is an advertisement", name)
		}
	}
}

// TestARPOfStrangers likewise.
func TestARPOfStrangers(t *testing.T) {
	good := []byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 1, 0, 100, 0, 0, 0, 0, 0, 0, 10, 1, 0, 1}
	if sender, from, ok := parseARP(good); !ok || sender != netip.MustParseAddr("10.1.0.100") || from.String() != "02:00:00:00:00:09" {
		t.Errorf("%v %v %v", sender, from, ok)
	}
	for size := range good {
		if _, _, ok := parseARP(good[:size]); ok {
			t.Errorf("%d bytes are ARP", size)
		}
	}
	for _, i := range []int{0, 1, 2, 3, 4, 5} {
		b := append([]byte(nil), good...)
		b[i]++
		if _, _, ok := parseARP(b); ok {
			t.Errorf("byte %d does not count", i)
		}
	}
	if _, _, ok := parseARP(append(append(good[:14:14], 0, 0, 0, 0), good[18:]...)); ok {
		t.Error("who asks whether an address is free has it")
	}
}

func FuzzNeighbours(f *testing.F) {
	f.Add(advertised(optionTargetLink, 1, 2, 0, 0, 0, 0, 9))
	f.Add([]byte{0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 10, 1, 0, 100, 0, 0, 0, 0, 0, 0, 10, 1, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, mac, ok := parseAdvertisement(b); ok && (len(mac) != 6 || !a.Is6() || a.IsMulticast()) {
			t.Errorf("%v %v", a, mac)
		}
		if a, mac, ok := parseARP(b); ok && (len(mac) != 6 || !a.Is4() || a.IsUnspecified()) {
			t.Errorf("%v %v", a, mac)
		}
	})
}
