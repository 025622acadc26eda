package protocol

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestKnownIsSigned: nobody but the arbiter makes one, for another mesh or further on.
func TestKnownIsSigned(t *testing.T) {
	key, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := identity.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cluster := identity.ClusterID{1}
	k := SignKnown(key, cluster, Fence{2, 3}, 4, "abc")
	older := k // as it passes through an older build
	older.Leadership, older.Vouched = nil, nil
	if old := SignKnown(key, cluster, Fence{2, 3}, 4, ""); !older.Genuine(cluster) || !old.Genuine(cluster) || !bytes.Equal(old.Signature, k.Signature) {
		t.Error("an older build does not take it, or its copy is not taken")
	}
	if !k.Genuine(cluster) || k.Genuine(identity.ClusterID{2}) {
		t.Error("its own mesh alone takes it")
	}
	for name, change := range map[string]func(*Known){
		"incarnation": func(k *Known) { k.Incarnation++ }, "term": func(k *Known) { k.Term++ }, "index": func(k *Known) { k.Index++ },
		"key": func(k *Known) { k.By = other.Public() }, "signature": func(k *Known) { k.Vouched = nil },
		"leadership": func(k *Known) { k.Leadership = []byte("abd") }, "older signature": func(k *Known) { k.Signature, k.Leadership = nil, nil },
		"word for older builds": func(k *Known) { k.Signature = make([]byte, 1<<20) }, "word without its number": func(k *Known) { k.Leadership = nil },
		"nobody": func(k *Known) { *k = Known{Fence: k.Fence, Index: 9} },
	} {
		forged := k
		change(&forged)
		if forged.Genuine(cluster) {
			t.Errorf("genuine with another %s", name)
		}
	}
	longest := strings.Repeat("x", MaxLeadership)
	if !SignKnown(key, cluster, Fence{2, 3}, 4, longest).Genuine(cluster) || SignKnown(key, cluster, Fence{2, 3}, 4, longest+"x").Genuine(cluster) {
		t.Error("the number of a leadership may be of any length, or of none")
	}
	if !k.Less(Known{Fence: Fence{2, 3}, Index: 5}) || !k.Less(Known{Fence: Fence{2, 4}}) || !k.Less(Known{Fence: Fence{3, 1}}) || k.Less(k) {
		t.Error("not in order")
	}
}
