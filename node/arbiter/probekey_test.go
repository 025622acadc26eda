package arbiter

import (
	"bytes"
	"context"
	"encoding/hex"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// term serves one term and gives the key of probes that it told.
func (f *fixture) term(number uint64) (key []byte) {
	f.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	config := f.config()
	config.Serving = func(a *Arbiter) {
		if a != nil {
			key = a.probeKey
			cancel()
		}
	}
	f.ok(Serve(ctx, config, number))
	return key
}

// TestProbeKeyOutlivesTheTerm: nodes hear of a new arbiter seconds apart, and those that
// did not yet must understand the others meanwhile.
func TestProbeKeyOutlivesTheTerm(t *testing.T) {
	f := newFixture(t)
	first := f.term(2)
	if second := f.term(3); len(first) != 32 || !bytes.Equal(first, second) {
		t.Errorf("two terms have the keys %x and %x", first, second)
	}
}

// TestProbeKeyIsOfTheMesh: another for every mesh and every gossip key, which it does not
// show; the same by every build, for each may be the next arbiter.
func TestProbeKeyIsOfTheMesh(t *testing.T) {
	seen := map[string]bool{hex.EncodeToString(make([]byte, 32)): true}
	for _, c := range []struct {
		gossip  []byte
		cluster identity.ClusterID
	}{{make([]byte, 32), identity.ClusterID{1, 2}}, {make([]byte, 32), identity.ClusterID{1, 3}}, {bytes.Repeat([]byte{1}, 32), identity.ClusterID{1, 2}}} {
		key, err := probeKeyOf(c.gossip, c.cluster)
		if text := hex.EncodeToString(key); err != nil || len(key) != 32 || seen[text] {
			t.Errorf("of %x, %x: %s, %v", c.gossip, c.cluster, text, err)
		} else {
			seen[text] = true
		}
	}
	const golden = "44971c5a3a59fc83b58574cfbfec5cbce6d24dd569754b9c3f21110ec9f8a67f" // by RFC 5869
	if !seen[golden] {
		t.Errorf("the first is not %s", golden)
	}
}
