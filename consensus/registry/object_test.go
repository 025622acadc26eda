package registry

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"maps"
	"reflect"
	"runtime"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry/sorted"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func (s *State) plain() *plain {
	p := &plain{
		Cluster: s.Cluster, Tick: s.Tick, Index: s.Index, Term: s.Term, Nodes: make(map[identity.NodeID]*Node),
		Indexes: s.Indexes, Tokens: s.Tokens, Clients: asMap(s.Clients), Policy: s.Policy, Parts: s.Parts,
		Leases: asMap(s.Leases), Sessions: maps.Collect(s.Sessions.All()), Requests: asMap(s.Requests),
		Secrets: s.Secrets, Wraps: s.Wraps, Authorities: s.Authorities, Certificates: asMap(s.Certificates),
		DataKey: s.DataKey, Applied: s.applied.list(), HeadlessFloor: s.HeadlessFloor, EpochFloor: s.EpochFloor, Voters: s.Voters,
		Enlarged: s.Enlarged,
	}
	for id, n := range s.Nodes {
		told, sp := *n, s.spent.Get(id)
		told.Spent, told.SpentKept = sp.list(), sp.kept
		p.Nodes[id] = &told
	}
	return p
}

func asMap[K comparable, V any](m sorted.Map[K, V]) map[K]V {
	out := make(map[K]V, m.Len())
	for k, v := range m.All() {
		out[k] = v
	}
	return out
}

func sealSnapshot(version byte, body []byte) []byte {
	raw := make([]byte, 0, snapshotHeader+len(body)+sha256.Size)
	raw = append(raw, snapshotMagic...)
	raw = append(raw, version)
	raw = binary.BigEndian.AppendUint64(raw, uint64(len(body)))
	raw = append(raw, body...)
	sum := sha256.Sum256(raw)
	return append(raw, sum[:]...)
}

// TestObjectIsAsBefore: what is written member by member says what one encoder said.
func TestObjectIsAsBefore(t *testing.T) {
	r := newRun(t, 11)
	for i := range 400 {
		r.step()
		if i%40 != 0 {
			continue
		}
		var got, want any
		whole, err := json.Marshal(r.s.plain())
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(whole, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text(t, r.s)), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("entry %d: %v\n%s\n%s", r.s.Index, err, text(t, r.s), whole)
		}
	}
}

// scales looks at what lives while a snapshot is written, and lets commands be applied.
type scales struct {
	busy    func()
	written int
	version byte
	most    int64
}

func (s *scales) Write(p []byte) (int, error) {
	if before := s.written; before>>20 != (before+len(p))>>20 { // each MiB
		s.busy()
		s.most = max(s.most, living())
	}
	if s.written == 0 {
		s.version = p[len(snapshotMagic)]
	}
	s.written += len(p)
	runtime.KeepAlive(&p[0]) // the writer still has it
	return len(p), nil
}

// mostWriting is how many bytes a snapshot may hold while it is written, its buffers and
// what one object takes.
const mostWriting = 512 << 10

// TestSnapshotHoldsLittle: what is held to write one does not grow with what there is; of
// what changes meanwhile there are two.
func TestSnapshotHoldsLittle(t *testing.T) {
	const sessions, active = 1_500, 200
	f := many(t, sessions)
	for i := range sessions {
		f.in(i, i/4)
		if i >= active {
			f.out(i)
		}
	}
	for _, version := range []byte{4, 4, 5} { // the second finds what the first one left to the next
		f.s.Enlarged = version == streamVersion
		clone, base, changes := f.s.Clone(), living(), 0
		w := &scales{busy: func() {
			weight := SliceWeight{Number: 0, Epoch: 1, Weight: 9}
			f.must(Command{WeighSlices: &WeighSlices{Session: session(changes % active), Weights: []SliceWeight{weight}}})
			changes++
		}}
		if err := WriteSnapshot(w, clone); err != nil {
			t.Fatal(err)
		}
		held := w.most - base
		t.Logf("version %d, %d bytes written while %d lived, %d more at most", version, w.written, base, held)
		if changes < 2 || w.version != version || held > mostWriting {
			t.Errorf("%d bytes held to write %d, at most %d; %d changes", held, w.written, mostWriting, changes)
		}
	}
	runtime.KeepAlive(f)
}
