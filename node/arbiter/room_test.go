package arbiter

import (
	"encoding/binary"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestEnlargedWhenAllCanRead: a mesh that is about to be full gets more room, and not
// while a server of the log would refuse what others take.
func TestEnlargedWhenAllCanRead(t *testing.T) {
	q := newQuorum(t)
	s := q.store.state
	turn := func() bool {
		q.a.enlarge()
		q.a.enlarge() // one at a time
		if len(q.a.proposals) > 1 {
			t.Fatalf("%d proposals", len(q.a.proposals))
		}
		q.commitProposed()
		return s.Enlarged
	}
	if turn() {
		t.Error("enlarged for nothing")
	}
	for i := range s.Room().Clients / 4 * 3 {
		s.Clients.Put(string(binary.BigEndian.AppendUint32(nil, uint32(i))), &registry.Client{})
	}
	q.second.hello.Reads = enlargeVersion - 1
	if turn() {
		t.Error("a server that cannot read of it would part from the others")
	}
	q.second.hello.Reads = enlargeVersion
	if !turn() {
		t.Error("not enlarged")
	}
}
