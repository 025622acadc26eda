package clocks

import (
	"maps"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestJudge: three voters know which of them is wrong, two clocks do not, and with one
// voter the other nodes' clocks are worth a warning only.
func TestJudge(t *testing.T) {
	const now = 500_000 * time.Hour
	a, b, c, d := identity.NodeID{1}, identity.NodeID{2}, identity.NodeID{3}, identity.NodeID{4}
	voter := func(id identity.NodeID, ahead time.Duration) Reading { return Reading{id, true, now + ahead} }
	other := func(id identity.NodeID, ahead time.Duration) Reading { return Reading{id, false, now + ahead} }
	type wrong = map[identity.NodeID]time.Duration
	for name, tc := range map[string]struct {
		all   []Reading
		off   wrong
		sure  bool
		apart time.Duration
	}{
		"nobody":                        {nil, nil, false, 0},
		"one":                           {[]Reading{voter(a, 0)}, nil, false, 0},
		"three that agree":              {[]Reading{voter(a, 59*time.Second), voter(b, 0), voter(c, -time.Second)}, nil, true, 0},
		"one of three ahead":            {[]Reading{voter(a, time.Hour), voter(b, 0), voter(c, time.Second)}, wrong{a: time.Hour - time.Second}, true, 0},
		"one of three behind":           {[]Reading{voter(b, 0), voter(a, -24*time.Hour), voter(c, 0)}, wrong{a: -24 * time.Hour}, true, 0},
		"all three differ":              {[]Reading{voter(a, -time.Hour), voter(b, 0), voter(c, time.Hour)}, wrong{a: -time.Hour, c: time.Hour}, true, 0},
		"two voters":                    {[]Reading{voter(a, 0), voter(b, time.Hour)}, nil, false, time.Hour},
		"two voters and a node":         {[]Reading{voter(a, 0), voter(b, time.Hour), other(c, 0)}, wrong{b: time.Hour}, false, 0},
		"a sole voter and nodes":        {[]Reading{voter(a, time.Hour), other(b, 0), other(c, 0)}, wrong{a: time.Hour}, false, 0},
		"a node, beside voters":         {[]Reading{voter(a, 0), voter(b, 0), voter(c, 0), other(d, -time.Hour)}, wrong{d: -time.Hour}, true, 0},
		"nodes do not outvote voters":   {[]Reading{voter(a, 0), voter(b, 0), voter(c, 0), other(d, time.Hour), other(identity.NodeID{5}, time.Hour), other(identity.NodeID{6}, time.Hour), other(identity.NodeID{7}, time.Hour)}, wrong{d: time.Hour, {5}: time.Hour, {6}: time.Hour, {7}: time.Hour}, true, 0},
		"four voters in halves":         {[]Reading{voter(a, 0), voter(b, 0), voter(c, time.Hour), voter(d, time.Hour)}, nil, false, time.Hour},
		"one of four voters":            {[]Reading{voter(a, 0), voter(b, 0), voter(c, 0), voter(d, time.Hour)}, wrong{d: time.Hour}, true, 0},
		"a minute is not off, 61 s are": {[]Reading{voter(a, Limit), voter(b, 0), voter(c, 0), voter(d, -Limit-time.Second)}, wrong{d: -Limit - time.Second}, true, 0},
	} {
		v := Judge(tc.all)
		if !maps.Equal(v.Off, tc.off) || v.Sure != tc.sure || v.Apart != tc.apart {
			t.Errorf("%s: %+v", name, v)
		}
	}
}
