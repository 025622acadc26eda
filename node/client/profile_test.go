package client

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func sample() Profile {
	return Profile{
		Cluster: identity.ClusterID{1, 2, 3}, CAHash: [32]byte{4, 5, 6}, User: "alice",
		Gateways: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6484"), netip.MustParseAddrPort("[2001:db8::1]:6484")},
	}
}

func TestProfileRoundTrip(t *testing.T) {
	byKey := sample()
	byKey.Method, byKey.Local = "psk", true
	for _, p := range []Profile{sample(), {Gateways: sample().Gateways}, byKey} {
		got, err := ParseProfile([]byte(p.Text()))
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%+v came back as %+v, %v", p, got, err)
		}
	}
}

// TestProfileIsStrict: whatever is wrong is named by its key or line.
func TestProfileIsStrict(t *testing.T) {
	good := sample().Text()
	line := func(key, value string) string {
		var out []string
		for _, l := range strings.Split(good, "\n") {
			if strings.HasPrefix(l, key) {
				l = value
			}
			out = append(out, l)
		}
		return strings.Join(out, "\n")
	}
	many := make([]string, MaxGateways+1)
	for i := range many {
		many[i] = fmt.Sprintf("%q", fmt.Sprintf("192.0.2.1:%d", i+1))
	}
	for _, c := range []struct{ name, text, says string }{
		{"nothing", "", "cluster"},
		{"an unknown key", good + "\nverify = false\n", "verify"},
		{"a syntax error", "cluster = \n", "line 1"},
		{"a wish that is none", good + "\nlocal = \"yes\"\n", "local"},
		{"a wrong type", line("user", "user = 7"), "user"},
		{"a cluster too short", line("cluster", `cluster = "0102"`), "key cluster"},
		{"no CA hash", line("ca", ""), "key ca"},
		{"a damaged CA hash", line("ca", `ca = "aaaa"`), "key ca"},
		{"no gateway", line("gateways", "gateways = []"), "key gateways"},
		{"a gateway without port", line("gateways", `gateways = ["192.0.2.1"]`), "key gateways"},
		{"too many gateways", line("gateways", "gateways = ["+strings.Join(many, ",")+"]"), "key gateways"},
	} {
		_, err := ParseProfile([]byte(c.text))
		if !errors.Is(err, ErrProfile) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v, want it to name %q", c.name, err, c.says)
		}
	}
	if _, err := ParseProfile([]byte(line("gateways", "gateways = ["+strings.Join(many[1:], ",")+"]"))); err != nil {
		t.Errorf("I10: %d gateways are refused: %v", MaxGateways, err)
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add(sample().Text())
	f.Add("cluster = \"\"\ngateways = [\"[::1]:0\"]\n")
	f.Add("user = \"\"\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParseProfile([]byte(text))
		if err != nil {
			if !errors.Is(err, ErrProfile) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		again, err := ParseProfile([]byte(p.Text()))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v came back as %+v, %v", p, again, err)
		}
	})
}
