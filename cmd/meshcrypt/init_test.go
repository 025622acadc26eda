package main

import (
	"net/netip"
	"strings"
	"testing"
)

// TestInitWithoutTUN: a host that stays as it is masquerades, and what it
// cannot do is said before anything is made.
func TestInitWithoutTUN(t *testing.T) {
	good := initFlags{place: placeFlags{name: "a", listen: "127.0.0.11:6484", userspace: true}, push: []string{"10.20.0.0/24"}}
	config, err := good.config()
	if err != nil || config.Egress != "masquerade" || !config.Place.Userspace {
		t.Errorf("%+v, %v", config, err)
	}
	for want, spoil := range map[string]func(*initFlags){
		"only masquerade":     func(f *initFlags) { f.egress = "routed" },
		"no address moves":    func(f *initFlags) { f.insideAddresses = []string{"10.20.0.200"} },
		"no network is named": func(f *initFlags) { f.push = nil },
		// Nothing keeps strangers from where its only address is.
		"strangers reach":   func(f *initFlags) { f.handOn = "clear" },
		"unknown --hand-on": func(f *initFlags) { f.handOn = "loud" },
	} {
		bad := good
		spoil(&bad)
		if _, err := bad.config(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	at := netip.MustParseAddrPort("192.0.2.1:6484")
	if line := joinLine(at, "mct1.x", "", true); strings.Contains(line, "sudo") || !strings.Contains(line, "--userspace") {
		t.Errorf("%s", line)
	}
}
