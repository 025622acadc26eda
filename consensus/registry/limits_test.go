package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// I10: what is at a limit is taken, what is one beyond is refused.
func TestLimitsOfFounding(t *testing.T) {
	for name, fill := range map[string]func(c *Found, n int) (limit int){
		"pools": func(c *Found, n int) int {
			for i := len(c.Cluster.Pool); i < n; i++ {
				c.Cluster.Pool = append(c.Cluster.Pool, prefix(fmt.Sprintf("10.%d.0.0/16", 100+i)))
			}
			return MaxPools
		},
		"parts": func(c *Found, n int) int {
			c.Cluster.Pool, c.Parts = []netip.Prefix{prefix("10.0.0.0/8")}, nil
			for i := range n {
				c.Parts = append(c.Parts, Part{Prefix: prefix(fmt.Sprintf("10.%d.0.0/16", i))})
			}
			return MaxParts
		},
		"prefixes": func(c *Found, n int) int {
			for i := range n {
				c.Policy.Prefixes = append(c.Policy.Prefixes, prefix(fmt.Sprintf("10.%d.0.0/16", i)))
			}
			return MaxPrefixes
		},
		"modes": func(c *Found, n int) int {
			for range n {
				c.Policy.Modes = append(c.Policy.Modes, ModeAuto)
			}
			return MaxModes
		},
		"secrets": func(c *Found, n int) int {
			for i := len(c.Secrets); i < n; i++ {
				c.Secrets[fmt.Sprint("s", i)] = Sealed{Generation: 1}
			}
			return MaxSecrets
		},
		"CA": func(c *Found, n int) int { c.Cluster.CA = make([]byte, n); return MaxBlob },
		"recovery key": func(c *Found, n int) int {
			c.Cluster.Recovery = make([]byte, n)
			return MaxBlob
		},
		"box":  func(c *Found, n int) int { c.Secrets["x"] = Sealed{1, make([]byte, n)}; return MaxBlob },
		"wrap": func(c *Found, n int) int { c.Wraps["x"] = make([]byte, n); return MaxBlob },
		"wrap key": func(c *Found, n int) int {
			c.Founder.WrapKey = make([]byte, n)
			return MaxBlob
		},
		"name":     func(c *Found, n int) int { c.Founder.Name = strings.Repeat("n", n); return MaxName },
		"headless": func(c *Found, n int) int { c.Policy.Headless = uint64(n); return MaxHeadless },
	} {
		limit := fill(founding(), 0)
		for _, n := range []int{limit, limit + 1} {
			c := founding()
			fill(c, n)
			r := Apply(New(), 1, 1, Command{ID: CommandID{1}, Found: c})
			if got := r.Err() == nil; got != (n == limit) {
				t.Errorf("%s, %d of %d: %v", name, n, limit, r.Err())
			}
		}
	}
}

func TestElapsedLimit(t *testing.T) { // I10
	f := newFixture(t)
	f.must(Command{AdvanceTick: &AdvanceTick{Elapsed: MaxElapsed}})
	f.refuse(ErrInvalid, Command{AdvanceTick: &AdvanceTick{Elapsed: MaxElapsed + 1}})
	f.refuse(ErrInvalid, Command{AdvanceTick: &AdvanceTick{}})
}

func TestRoleNames(t *testing.T) {
	all := allRoles.Names()
	if got, err := ParseRoles(all); err != nil || got != allRoles || len(all) != 4 {
		t.Fatalf("%v: %#x, %v", all, got, err)
	}
	if _, err := ParseRoles([]string{"agent", "king"}); !errors.Is(err, ErrInvalid) {
		t.Fatalf("got %v", err)
	}
}
