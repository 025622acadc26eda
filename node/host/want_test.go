package host

import (
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOrderIsNeverOpen: of a host that lacks everything, what closes is put before
// what opens, and nothing twice.
func TestOrderIsNeverOpen(t *testing.T) {
	pushed := netip.MustParsePrefix("10.20.0.0/16")
	w := want{
		tun: "tun0", up: true, table: DefaultTable, mark: DefaultMark,
		closed: []netip.Prefix{pushed}, through: []netip.Prefix{pushed}, except: []netip.Prefix{netip.MustParsePrefix("10.20.5.0/24")},
		addresses: []netip.Addr{netip.MustParseAddr("10.99.0.7")}, families: []int{unix.AF_INET},
		settings: []setting{ipv4Conf("tun0", "rp_filter", "2"), ipv4Conf("gone", "rp_filter", "2")},
	}
	order := func(s seen) (all []string) {
		for _, g := range w.lacks(s) {
			all = append(all, g.kind.String())
		}
		return all
	}
	bare := seen{device: 7, sysctls: map[string]string{"ipv4/conf/tun0/rp_filter": "1"}}
	full := []string{"blackhole route", "fence", "rule", "packet filter", "sysctl", "interface", "address", "route", "route"}
	if got := order(bare); !slices.Equal(got, full) {
		t.Errorf("put in the order %q", got)
	}
	bare.device = 0 // before the TUN, or after it
	if got := order(bare); !slices.Equal(got, []string{"blackhole route", "fence", "rule", "packet filter", "sysctl", "route"}) {
		t.Errorf("without the TUN %q", got)
	}
	whole := seen{device: 7, running: true, fence: true, filter: true, rules: map[int]bool{unix.AF_INET: true},
		addresses: map[netip.Addr]bool{w.addresses[0]: true}, routes: map[route]bool{}}
	for _, r := range w.routes(7) {
		whole.routes[r] = true
	}
	if got := order(whole); len(got) > 0 {
		t.Errorf("a whole host lacks %q", got)
	}
	whole.device = 8 // made anew: its routes lead nowhere
	if got := order(whole); !slices.Equal(got, []string{"route"}) {
		t.Errorf("with another TUN it lacks %q", got)
	}
}
