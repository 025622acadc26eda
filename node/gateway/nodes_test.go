package gateway

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TestIndexesOfTheProtocol: 0 is nobody's, and MaxIndex somebody's.
func TestIndexesOfTheProtocol(t *testing.T) { // I10
	for index, known := range map[identity.Index]bool{0: false, 1: true, identity.MaxIndex: true, identity.MaxIndex + 1: false} {
		n := NewNodes([]Node{{Index: index, Outer: nodeAt(1), Alive: true}})
		if got := n.node(index) != nil; got != known || (len(n.byOuter) == 1) != known {
			t.Errorf("index %d: known %v", index, got)
		}
	}
}
