package protocol

import (
	"crypto/rand"
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
	k := SignKnown(key, cluster, Fence{2, 3}, 4)
	if !k.Genuine(cluster) || k.Genuine(identity.ClusterID{2}) {
		t.Error("its own mesh alone takes it")
	}
	for name, change := range map[string]func(*Known){
		"incarnation": func(k *Known) { k.Incarnation++ }, "term": func(k *Known) { k.Term++ }, "index": func(k *Known) { k.Index++ },
		"key": func(k *Known) { k.By = other.Public() }, "signature": func(k *Known) { k.Signature = nil },
		"nobody": func(k *Known) { *k = Known{Fence: k.Fence, Index: 9} },
	} {
		forged := k
		change(&forged)
		if forged.Genuine(cluster) {
			t.Errorf("genuine with another %s", name)
		}
	}
	if !k.Less(Known{Fence: Fence{2, 3}, Index: 5}) || !k.Less(Known{Fence: Fence{2, 4}}) || !k.Less(Known{Fence: Fence{3, 1}}) || k.Less(k) {
		t.Error("not in order")
	}
}
