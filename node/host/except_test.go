package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func prefixes(text string) (all []netip.Prefix) {
	for _, one := range strings.Fields(text) {
		all = append(all, netip.MustParsePrefix(one))
	}
	return all
}

// What is pushed wins, but over what the user wished and this host's own.
func TestSettle(t *testing.T) {
	lan := LocalNetwork{netip.MustParsePrefix("10.1.2.0/24"), "eth0", false}
	docker := LocalNetwork{netip.MustParsePrefix("172.17.0.0/16"), "docker0", true}
	public := LocalNetwork{netip.MustParsePrefix("203.0.113.0/25"), "eth1", false}
	six := LocalNetwork{netip.MustParsePrefix("fd01::/64"), "eth0", false}
	for name, c := range map[string]struct {
		pushed string
		local  []LocalNetwork
		wishes Wishes

		through, except, left, ways string
	}{
		"nothing in the way": {"10.20.0.0/16", []LocalNetwork{lan, docker}, Wishes{}, "10.20.0.0/16", "", "", ""},
		"a rogue network gives out a part": {"10.0.0.0/8", []LocalNetwork{lan}, Wishes{},
			"10.0.0.0/8", "", "", "10.1.2.0/24 hidden"},
		"or the whole": {"10.1.2.0/25", []LocalNetwork{lan}, Wishes{}, "10.1.2.0/25", "", "", "10.1.2.0/24 hidden"},
		"everything":   {"0.0.0.0/0", []LocalNetwork{lan, public}, Wishes{}, "0.0.0.0/0", "", "", "10.1.2.0/24 hidden; 203.0.113.0/25 hidden, public"},
		"containers":   {"172.16.0.0/12", []LocalNetwork{docker}, Wishes{}, "172.16.0.0/12", "172.17.0.0/16", "", "172.17.0.0/16 own"},
		"a user's exception": {"10.0.0.0/8", []LocalNetwork{lan}, Wishes{Except: prefixes("10.1.2.7/24")},
			"10.0.0.0/8", "10.1.2.0/24", "", "10.1.2.0/24 excepted"},
		"of a part": {"10.0.0.0/8", []LocalNetwork{lan}, Wishes{Except: prefixes("10.1.2.0/25")},
			"10.0.0.0/8", "10.1.2.0/25", "", "10.1.2.0/24 hidden"},
		"of all that is pushed": {"10.20.0.0/16 10.30.0.0/16", nil, Wishes{Except: prefixes("10.20.0.0/15")},
			"10.30.0.0/16", "", "10.20.0.0/16", ""},
		"of what is not pushed": {"10.20.0.0/16", nil, Wishes{Except: prefixes("10.1.2.0/24")}, "10.20.0.0/16", "", "", ""},
		"local": {"0.0.0.0/0 ::/0", []LocalNetwork{lan, six, public}, Wishes{Local: true},
			"0.0.0.0/0 ::/0", "10.1.2.0/24 fd01::/64", "", "10.1.2.0/24 excepted; fd01::/64 excepted; 203.0.113.0/25 hidden, public"},
		"IPv6": {"fd00::/8", []LocalNetwork{six}, Wishes{}, "fd00::/8", "", "", "fd01::/64 hidden"},
		"a public bridge": {"203.0.113.0/24", []LocalNetwork{{public.Prefix, "br0", true}}, Wishes{Local: true},
			"203.0.113.0/24", "", "", "203.0.113.0/25 hidden, public"},
	} {
		n := Settle(prefixes(c.pushed), c.local, c.wishes)
		var ways []string
		for _, l := range n.Local {
			ways = append(ways, fmt.Sprint(l.Prefix, " ", l.Way))
		}
		if got := []string{strings.Join(names(n.Prefixes), " "), strings.Join(names(n.Except), " "), strings.Join(names(n.Left), " "), strings.Join(ways, "; ")}; !slices.Equal(got, []string{c.through, c.except, c.left, c.ways}) {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// Exceptions are bounded (I10): a host with more own networks hides the rest.
func TestSettleIsBounded(t *testing.T) {
	var local []LocalNetwork
	for i := range MaxPrefixes + 1 {
		local = append(local, LocalNetwork{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), "br", true})
	}
	n := Settle(prefixes("10.0.0.0/8"), local, Wishes{})
	if len(n.Except) != MaxPrefixes || n.Local[MaxPrefixes].Way != WayHidden {
		t.Errorf("%d exceptions, the last network is %s", len(n.Except), n.Local[len(n.Local)-1].Way)
	}
}

// A public range is never excepted, nor what contains one.
func TestCheckException(t *testing.T) {
	for text, good := range map[string]bool{
		"10.0.0.0/8": true, "10.1.2.3/32": true, "172.31.0.0/16": true, "192.168.7.0/24": true, "100.64.0.0/10": true,
		"169.254.0.0/16": true, "fd00::/8": true, "fe80::/64": true,
		"0.0.0.0/0": false, "10.0.0.0/7": false, "172.0.0.0/8": false, "198.51.100.0/24": false, "100.0.0.0/8": false,
		"::/0": false, "2001:db8::/32": false, "::ffff:10.0.0.0/104": false, "f000::/4": false,
	} {
		if err := CheckException(netip.MustParsePrefix(text)); (err == nil) != good || !good && !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := CheckException(netip.Prefix{}); !errors.Is(err, ErrConfig) {
		t.Errorf("none: %v", err)
	}
}
