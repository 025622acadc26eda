package node

import (
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/e2e/cost"
)

const (
	restFor   = 10 * time.Second // how long a mesh at rest is watched
	settleFor = 5 * time.Second  // after its sessions came
	openers   = 1024             // sessions of a crowd that are opened at once
)

// BenchmarkScale is the CPU that three nodes in one process take in a second at rest: 10 ms
// are a hundredth of a core. Their UDP is the in-memory twin's, without the kernel's part;
// the sessions' clients are away, and say nothing.
func BenchmarkScale(b *testing.B) {
	w := newWorld(b, 3)
	for _, sessions := range []int{0, 10_000} {
		w.crowd(sessions)
		<-time.After(settleFor)
		b.Run(fmt.Sprintf("a_second_of_all_nodes_at_rest/nodes=3/sessions=%d", sessions), func(b *testing.B) {
			before := cost.CPU()
			<-time.After(restFor)
			cost.Report(b, (cost.CPU()-before)/time.Duration(restFor/time.Second))
		})
	}
}

// crowd commits so many sessions, each of another client and with a slice on each node.
func (w *world) crowd(sessions int) {
	w.Helper()
	var opened sync.WaitGroup
	for first := range openers {
		opened.Go(func() {
			for i := first; i < sessions && !w.Failed(); i += openers {
				w.openAway(i)
			}
		})
	}
	opened.Wait()
	w.registry(func(s *registry.State) {
		if n := len(s.ActiveSessions()); n != sessions {
			w.Fatalf("%d of %d sessions", n, sessions)
		}
	})
}

// openAway commits a session whose client is away; all its slices are up.
func (w *world) openAway(i int) {
	var id registry.SessionID
	binary.BigEndian.PutUint32(id[:], uint32(i+1))
	name := fmt.Sprint("crowd-", i)
	open := registry.OpenSession{Part: worldPool, Track: true, Session: registry.Session{
		ID: id, Client: name, Device: registry.DeviceID(id), Request: registry.RequestID(id),
		Key: identity.PublicKey{1}, Identity: make([]byte, 32), Hello: make([]byte, 32),
	}}
	var marks []registry.MarkSlice
	for n, m := range w.members {
		open.Slices = append(open.Slices, registry.Slice{
			Number: uint8(n), Suite: 1, Agent: m.trust.Key.ID(), Boot: m.boot, Weight: 1,
			SPI: uint32(m.self.Index)<<20 | 1<<16 | uint32(i),
		})
		marks = append(marks, registry.MarkSlice{Session: id, Number: uint8(n), Epoch: 1, State: registry.SliceUp})
	}
	for _, c := range []registry.Command{
		{PutClient: &registry.PutClient{Client: registry.Client{Name: name, PasswordKey: identity.PublicKey{1}}}},
		{OpenSession: &open},
		{MarkSlices: &registry.MarkSlices{Marks: marks}},
	} {
		if _, err := w.members[0].propose(w.Context(), c); err != nil {
			w.Error(err)
			return
		}
	}
}
