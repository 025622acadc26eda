package agent

import (
	"runtime"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// maxSessionBytes is what a session at rest may take of an agent that is its egress
// too; maxEndedBytes what may be left of one that ended.
const (
	maxSessionBytes = 3000
	maxEndedBytes   = 100
)

// TestMemoryOfSessions: what sessions take, and that it is given back.
func TestMemoryOfSessions(t *testing.T) {
	const sessions = 1500
	f := ruling(t)
	f.end(f.crowd(sessions)) // what tables grow to once
	before := living()
	view := f.crowd(sessions)
	full := living()
	each := (full - before) / sessions
	t.Logf("a session takes %d bytes", each)
	if each > maxSessionBytes {
		t.Errorf("a session takes %d bytes, at most %d are allowed", each, maxSessionBytes)
	}
	f.end(view)
	if left := (living() - before) / sessions; left > maxEndedBytes {
		t.Errorf("an ended session leaves %d bytes, at most %d are allowed", left, maxEndedBytes)
	}
	f.nothingLeft()
}

// end ends all sessions of a crowd.
func (f *fixture) end(crowd *protocol.View) {
	over := &protocol.View{}
	for _, r := range crowd.Routes {
		over.Unroutes, over.Unrules = append(over.Unroutes, r.Session), append(over.Unrules, r.Session)
	}
	f.hear(&protocol.Node{Ended: &protocol.Sessions{Sessions: over.Unroutes}})
	f.hear(&protocol.Node{View: over})
	f.said = nil
}

// living is the bytes of all that lives, in signed numbers, for they may shrink.
func living() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestRealSlicesGiveBack is that for slices whose keys were agreed with a client.
func TestRealSlicesGiveBack(t *testing.T) {
	f := ruling(t)
	var ids []registry.SessionID
	for _, key := range f.offered()[:20] {
		c := f.customer(key, nil).up()
		ids = append(ids, c.sliceKey().session)
	}
	f.advance(TickEvery)
	f.hear(&protocol.Node{Ended: &protocol.Sessions{Sessions: ids}})
	f.nothingLeft()
	if said := saying(f, freed); len(said) != 1 || len(said[0].Sessions) != len(ids) {
		t.Errorf("said %+v", said)
	}
}

// TestPrekeysAreSmall, but for the latest MaxYoung: an agent holds thousands of them after a
// rush, and so does every agent of the mesh.
func TestPrekeysAreSmall(t *testing.T) {
	const prekeys, most = 200, 2200
	f := ruling(t)
	before := living()
	f.poolPrekeys(prekeys/4, 77)
	for range 3 {
		f.poolPrekeys(prekeys/4, 77)
	}
	f.prekeys.young.empty()
	if each := (living() - before) / prekeys; each > most {
		t.Errorf("a prekey takes %d bytes, at most %d are allowed", each, most)
	}
	runtime.KeepAlive(f)
}
