package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// enlarged is a small state that is written as a stream.
func enlarged(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.client("alice")
	f.open(1, "alice")
	f.must(Command{Enlarge: &Enlarge{}})
	return f
}

// pieces is a stream of them, whole by its checksum.
func pieces(t *testing.T, all ...any) []byte {
	t.Helper()
	raw := []byte(snapshotMagic + "\x05")
	for _, p := range all {
		body, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		raw = append(binary.BigEndian.AppendUint32(raw, uint32(len(body))), body...)
	}
	raw = append(raw, 0, 0, 0, 0)
	sum := sha256.Sum256(raw)
	return append(raw, sum[:]...)
}

// TestHundredThousandSessions: there is room for them, in a pool of /14, and they come
// back from a snapshot of which nobody ever held more than a piece.
func TestHundredThousandSessions(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // half of the CPU
	const n = 100_000
	f := crowd(t, n)
	if got := len(f.s.ActiveSessions()); got != n || f.s.Leases.Len() != n {
		t.Fatalf("%d sessions, %d leases", got, f.s.Leases.Len())
	}
	var raw bytes.Buffer
	began := time.Now()
	w := &widest{Buffer: &raw}
	if err := WriteSnapshot(w, f.s); err != nil || w.most > 1<<20 {
		t.Fatalf("%v, %d bytes at once", err, w.most)
	}
	written := time.Since(began)
	back, err := ReadSnapshot(&raw)
	if err != nil || back.Sessions.Len() != n {
		t.Fatal(err)
	}
	t.Logf("written in %v, read in %v", written, time.Since(began)-written)
	for i := 0; i < n; i += 997 {
		a, b := f.s.Sessions.Get(session(i)), back.Sessions.Get(session(i))
		if fmt.Sprint(*a) != fmt.Sprint(*b) {
			t.Fatalf("session %d came back as %+v", i, b)
		}
	}
}

// widest notes how much is written at once.
type widest struct {
	*bytes.Buffer
	most int
}

func (l *widest) Write(p []byte) (int, error) {
	l.most = max(l.most, len(p))
	return l.Buffer.Write(p)
}

// TestTooLongForOneObject: a state of which an older build could say all, and that
// would not fit, is written all the same.
func TestTooLongForOneObject(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	f.open(1, "alice")
	for _, most := range []int{MaxSnapshot, 100} {
		var raw bytes.Buffer
		if err := writeWithin(&raw, f.s, most); err != nil {
			t.Fatal(err)
		}
		if stream := raw.Bytes()[4] == streamVersion; stream != (most == 100) {
			t.Errorf("at most %d bytes: version %d", most, raw.Bytes()[4])
		}
		if back, err := ReadSnapshot(&raw); err != nil || !alike(back, f.s) {
			t.Errorf("at most %d bytes: %v", most, err)
		}
	}
}

// TestEnlargedSaysSo: an older build, which would refuse what this one takes, does not
// read the command that enlarges nor a snapshot of the state after it.
func TestEnlargedSaysSo(t *testing.T) {
	f := newFixture(t)
	if raw, err := EncodeSnapshot(f.s); err != nil || raw[4] >= streamVersion {
		t.Errorf("version %d before, %v", raw[4], err)
	}
	raw, err := EncodeCommand(Command{ID: CommandID{1}, Enlarge: &Enlarge{}})
	if err != nil || raw[4] != 5 {
		t.Errorf("command of version %d, %v", raw[4], err)
	}
	small := f.s.Room()
	f.must(Command{Enlarge: &Enlarge{}})
	if raw, err = EncodeSnapshot(f.s); err != nil || raw[4] != streamVersion {
		t.Errorf("version %d after, %v", raw[4], err)
	}
	if small.Sessions != 32_768 || f.s.Room().Sessions != MaxSessions {
		t.Errorf("room for %d sessions, then %d", small.Sessions, f.s.Room().Sessions)
	}
	roundTrip(t, f.s)
}

// TestCrowded: a mesh is to be enlarged before it is full, and once.
func TestCrowded(t *testing.T) {
	f := newFixture(t)
	for i := range f.s.Room().Sessions/4*3 - 1 {
		f.s.Sessions.Put(session(i), nil)
	}
	if f.s.Crowded() {
		t.Error("crowded too early")
	}
	f.s.Sessions.Put(session(1<<20), nil)
	if !f.s.Crowded() {
		t.Error("not crowded at three quarters")
	}
	f.must(Command{Enlarge: &Enlarge{}})
	if f.s.Crowded() {
		t.Error("crowded again")
	}
}

func TestDamagedStream(t *testing.T) {
	raw, err := EncodeSnapshot(enlarged(t).s)
	if err != nil {
		t.Fatal(err)
	}
	refusesDamage(t, raw)
}

// A stream with a right checksum over wrong pieces is refused too.
func TestInconsistentStream(t *testing.T) {
	lease := PathTestAddress(testPool).String()
	for name, p := range map[string]any{
		"nothing wrong":   map[string]any{},
		"nil node":        map[string]any{"nodes": []*Node{nil}},
		"nil token":       map[string]any{"tokens": []*Token{nil}},
		"token unburned":  map[string]any{"tokens": []*Token{{ID: "x"}}},
		"nil client":      map[string]any{"clients": []*Client{nil}},
		"nil session":     map[string]any{"sessions": []*Session{nil}},
		"nil authority":   map[string]any{"authorities": []*Authority{nil}},
		"nil certificate": map[string]any{"certificates": []*Certificate{nil}},
		"nil lease":       map[string]any{"leases": map[string]any{lease: nil}},
		"lost lease":      map[string]any{"leases": map[string]any{lease: Lease{Session: session(1)}}},
		"lost request":    map[string]any{"requests": map[RequestID]SessionID{request(1): session(1)}},
		"no object":       "text",
	} {
		if _, err := DecodeSnapshot(pieces(t, p)); errors.Is(err, ErrSnapshot) == (name == "nothing wrong") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStreamIsBounded: a length is believed up to MaxPieceBytes, and no more objects
// are taken than a state may have (I10).
func TestStreamIsBounded(t *testing.T) {
	raw := binary.BigEndian.AppendUint32([]byte(snapshotMagic+"\x05"), MaxPieceBytes)
	if _, err := DecodeSnapshot(raw); err == nil || bytes.Contains([]byte(err.Error()), []byte("piece of")) {
		t.Errorf("at the limit: %v", err)
	}
	raw[len(raw)-1]++
	if _, err := DecodeSnapshot(raw); err == nil || !bytes.Contains([]byte(err.Error()), []byte("piece of")) {
		t.Errorf("beyond it: %v", err)
	}
	f := enlarged(t)
	room := Room{Sessions: 1, Leases: 1, Clients: 1}
	if err := f.s.fits(room); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	for name, less := range map[string]func(*Room){
		"sessions": func(r *Room) { r.Sessions = 0 }, "leases": func(r *Room) { r.Leases = 0 }, "clients": func(r *Room) { r.Clients = 0 },
	} {
		tight := room
		less(&tight)
		if err := f.s.fits(tight); !errors.Is(err, ErrSnapshot) {
			t.Errorf("too many %s: %v", name, err)
		}
	}
}

// TestPiecesTakeOneRoom: who reads a stream holds one piece, in memory that all of them take.
func TestPiecesTakeOneRoom(t *testing.T) {
	large := map[string]any{"a newer build's": strings.Repeat("x", 1<<20)}
	raw := pieces(t, large, large, large, large, large, large, large, large)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := DecodeSnapshot(raw); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if made := after.TotalAlloc - before.TotalAlloc; made > 2<<20 {
		t.Errorf("%d bytes made to read %d in pieces of 1 MiB", made, len(raw))
	}
}

// TestSpentInPieces: SPIs that fill several pieces come back in their order.
func TestSpentInPieces(t *testing.T) {
	f := enlarged(t)
	sp := newSpent()
	for i := range uint32(2*MaxSpent + 7) {
		sp.add(i * 7919 % 100_003)
	}
	f.s.spent.Put(node(0), sp)
	roundTrip(t, f.s)
}
