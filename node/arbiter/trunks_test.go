package arbiter

import (
	"net"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/trunk"
)

// TestOldestTrunkMustGo: a gateway that opens one after the other has the newest of them,
// and takes none from another; those that have ended count no more.
func TestOldestTrunkMustGo(t *testing.T) {
	var open trunks
	a, b := identity.NodeID{1}, identity.NodeID{2}
	made := func(of identity.NodeID) *trunk.Trunk {
		near, far := net.Pipe()
		t.Cleanup(func() { far.Close() })
		tr := trunk.New(near)
		t.Cleanup(tr.Close)
		open.add(of, tr)
		return tr
	}
	other, gone, first, second := made(b), made(a), made(a), (*trunk.Trunk)(nil)
	open.remove(a, gone)
	if second = made(a); first.Over() {
		t.Fatal("there was room for both")
	}
	if third := made(a); !first.Over() || second.Over() || third.Over() || other.Over() {
		t.Errorf("first over: %t, second %t, third %t, the other node's %t", first.Over(), second.Over(), third.Over(), other.Over())
	}
}
