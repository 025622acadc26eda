package host

import (
	"net/netip"
	"testing"
)

// TestWithin: the address asked about is one of the prefix, however small that is.
func TestWithin(t *testing.T) {
	for text, want := range map[string][2]string{
		"10.20.0.0/24":       {"10.20.0.1", "10.20.0.2"},
		"10.20.0.100/31":     {"10.20.0.101", "10.20.0.101"},
		"10.20.0.100/32":     {"10.20.0.100", "10.20.0.100"},
		"255.255.255.255/32": {"255.255.255.255", "255.255.255.255"},
		"fd20::7/128":        {"fd20::7", "fd20::7"},
	} {
		p := netip.MustParsePrefix(text)
		if one, two := within(p, 1).String(), within(p, 2).String(); one != want[0] || two != want[1] {
			t.Errorf("%s: %s and %s, want %v", p, one, two, want)
		}
	}
}

// TestOneAddressIsInTheTunnel: a client that may reach one address alone is whole,
// though the addresses beside it leave by another way.
func TestOneAddressIsInTheTunnel(t *testing.T) {
	if !isolate(t) {
		return
	}
	outside(t)
	config := clientConfig(t.TempDir())
	config.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.20.0.100/32"), netip.MustParsePrefix("2001:db8:1::7/128")}
	c := prepareClient(t, config)
	openTUN(t)
	if err := c.Up(); err != nil {
		t.Fatal(err)
	}
	if found := c.surroundings(); len(found) != 0 {
		t.Errorf("a whole client: %q", found)
	}
}
