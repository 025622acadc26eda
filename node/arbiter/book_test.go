package arbiter

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// mostTold is how many bytes the arbiter may keep of what nodes are told of a session.
const mostTold = 600

// TestBytesOfTheBook: every session has a row in it.
func TestBytesOfTheBook(t *testing.T) {
	const sessions = 2_000
	f := newFixture(t)
	a := f.still()
	f.crowd(a, 3, 0)
	ids := make([]identity.NodeID, 3)
	for i := range ids {
		binary.BigEndian.PutUint32(ids[i][:], uint32(i+1))
	}
	var all []registry.SessionID
	f.store.View(func(s *registry.State) {
		for i := range sessions {
			ses := crowdMember(i, ids)
			ses.Client, ses.Leases = fmt.Sprint("c", i), []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
			s.Sessions.Put(ses.ID, ses)
			all = append(all, ses.ID)
		}
	})
	living := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := living()
	f.store.View(func(s *registry.State) {
		for batch := range slices.Chunk(all, 50) {
			a.lookAt(s, batch, &news{})
		}
	})
	each := (living() - before) / sessions
	t.Logf("%d bytes", each)
	if each > mostTold {
		t.Errorf("the book takes %d bytes for a session, at most %d", each, mostTold)
	}
	runtime.KeepAlive(a)
	runtime.KeepAlive(f)
}
