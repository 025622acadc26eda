package oracle

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

func testKey(t *testing.T, fill byte) (esp.Key, []byte) {
	t.Helper()
	material := bytes.Repeat([]byte{fill}, esp.AES256GCM.MaterialSize())
	k, err := esp.NewKey(esp.AES256GCM, material)
	if err != nil {
		t.Fatal(err)
	}
	return k, material
}

func newOutbound(t *testing.T, k esp.Key, led esp.Ledger) *esp.Outbound {
	t.Helper()
	out, err := esp.NewOutbound(1<<20|1, k, esp.DefaultLimits(), led)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func reserve(t *testing.T, out *esp.Outbound, packets int) {
	t.Helper()
	if _, err := out.Reserve(packets, packets); err != nil {
		t.Fatal(err)
	}
}

// node is one process of a test run: its own open file, like any other.
func node(t *testing.T, path string) *Recorder {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return NewRecorder(f, func(err error) { t.Error(err) })
}

func checkFile(t *testing.T, path string) error {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return Check(f)
}

// I2: an agent that goes on with another node's key is found, and named.
func TestFindsReuseAcrossNodes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nonces")
	shared, material := testKey(t, 1)
	own, _ := testKey(t, 2)
	a, b := node(t, path), node(t, path)
	first, other := newOutbound(t, shared, a), newOutbound(t, own, b)
	for range 20 {
		reserve(t, first, 45)
		reserve(t, other, 30)
	}
	if err := checkFile(t, path); err != nil {
		t.Fatalf("honest nodes: %v", err)
	}
	reserve(t, newOutbound(t, shared, b), 7) // the planted fault: counter 1 again
	err := checkFile(t, path)
	sum := sha256.Sum256(append([]byte("meshcrypt nonce oracle"), material...))
	if !errors.Is(err, ErrReuse) || !strings.Contains(err.Error(), fmt.Sprintf("key %x, counters 1 to 7", sum[:16])) {
		t.Fatalf("the planted reuse: %v", err)
	}
}

func TestConcurrentRecordsStayWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nonces")
	k, _ := testKey(t, 3)
	shared := newOutbound(t, k, node(t, path))
	var wg sync.WaitGroup
	for w := range byte(4) {
		own, _ := testKey(t, 10+w)
		out := newOutbound(t, own, node(t, path))
		wg.Go(func() {
			for range 200 {
				shared.Reserve(3, 0)
				out.Reserve(5, 0)
			}
		})
	}
	wg.Wait()
	if err := checkFile(t, path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != 4*400*RecordSize {
		t.Fatalf("%v, %v", info, err)
	}
}

// log writes records by hand: key, first, count.
func log(records ...[3]uint64) []byte {
	var buf bytes.Buffer
	r := NewRecorder(&buf, func(err error) { panic(err) })
	for _, rec := range records {
		r.Reserved([16]byte{byte(rec[0])}, rec[1], rec[2])
	}
	return buf.Bytes()
}

func TestCheck(t *testing.T) {
	const last = math.MaxUint64
	for _, c := range []struct {
		name    string
		records [][3]uint64
		want    error
		says    string
	}{
		{"nothing", nil, nil, ""},
		{"consecutive", [][3]uint64{{1, 1, 10}, {1, 11, 1}, {1, 12, 5}}, nil, ""},
		{"out of order", [][3]uint64{{1, 11, 5}, {1, 1, 10}, {1, 16, 1}}, nil, ""},
		{"two keys", [][3]uint64{{1, 1, 10}, {2, 1, 10}}, nil, ""},
		{"the same again", [][3]uint64{{1, 1, 10}, {1, 1, 10}}, ErrReuse, "counters 1 to 10"},
		{"one counter", [][3]uint64{{1, 1, 10}, {2, 1, 1}, {1, 10, 3}}, ErrReuse, "counters 10 to 10"},
		{"inside", [][3]uint64{{1, 5, 2}, {1, 1, 100}}, ErrReuse, "counters 5 to 6"},
		{"inside a joined one", [][3]uint64{{1, 1, 5}, {1, 6, 5}, {1, 20, 1}, {1, 5, 2}}, ErrReuse, "counters 5 to 6"},
		{"far under a long one", [][3]uint64{{1, 1, 1000}, {1, 2000, 1}, {1, 900, 1}}, ErrReuse, "counters 900 to 900"},
		{"last counter", [][3]uint64{{1, last, 1}, {1, 1, 1}}, nil, ""},
		{"last counter twice", [][3]uint64{{1, last, 1}, {1, last, 1}}, ErrReuse, ""},
		{"count zero", [][3]uint64{{1, 1, 0}}, ErrRecord, ""},
		{"counter zero", [][3]uint64{{1, 0, 1}}, ErrRecord, ""},
		{"wraps", [][3]uint64{{1, last, 2}}, ErrRecord, ""},
	} {
		err := Check(bytes.NewReader(log(c.records...)))
		if !errors.Is(err, c.want) || (err != nil && !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %v %s", c.name, err, c.want, c.says)
		}
	}
}

func TestTornLastRecord(t *testing.T) {
	whole := log([3]uint64{1, 1, 5}, [3]uint64{2, 1, 5})
	again := log([3]uint64{1, 1, 5})
	for n := range RecordSize {
		if err := Check(bytes.NewReader(append(bytes.Clone(whole), again[:n]...))); err != nil {
			t.Fatalf("torn after %d bytes: %v", n, err)
		}
	}
	if err := Check(bytes.NewReader(append(whole, again...))); !errors.Is(err, ErrReuse) {
		t.Fatalf("whole: %v", err)
	}
}

func TestReadError(t *testing.T) {
	broken := errors.New("broken disk")
	if err := Check(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Fatal(err)
	}
}

type countingWriter struct{ sizes []int }

func (w *countingWriter) Write(p []byte) (int, error) {
	w.sizes = append(w.sizes, len(p))
	return 0, io.ErrShortWrite
}

// A record is one Write, and an oracle that went blind says so.
func TestRecorderWritesOnceAndReports(t *testing.T) {
	var w countingWriter
	var reported error
	NewRecorder(&w, func(err error) { reported = err }).Reserved([16]byte{1}, 1, 45)
	if len(w.sizes) != 1 || w.sizes[0] != RecordSize || !errors.Is(reported, io.ErrShortWrite) {
		t.Fatalf("writes %v, reported %v", w.sizes, reported)
	}
}

// FuzzCheck: any file gives a verdict, the naive search agrees with it, and
// what was parsed is written back byte for byte.
func FuzzCheck(f *testing.F) {
	f.Add(log([3]uint64{1, 1, 5}, [3]uint64{1, 6, 5}))
	f.Add(log([3]uint64{1, 1, 5}, [3]uint64{2, 1, 5}, [3]uint64{1, 5, 1}))
	f.Add(log([3]uint64{1, 1, 0}))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := Check(bytes.NewReader(data))
		if errors.Is(err, ErrRecord) {
			return
		}
		var again bytes.Buffer
		rec := NewRecorder(&again, func(err error) { t.Fatal(err) })
		var hashes [][16]byte
		var used []interval
		reused := false
		for rest := data; len(rest) >= RecordSize && len(used) < 200; rest = rest[RecordSize:] {
			hash, iv, err := parse([RecordSize]byte(rest))
			if err != nil {
				t.Fatalf("Check passed a malformed record: %v", err)
			}
			rec.Reserved(hash, iv.first, iv.last-iv.first+1)
			for i := range used {
				reused = reused || hashes[i] == hash && iv.first <= used[i].last && used[i].first <= iv.last
			}
			hashes, used = append(hashes, hash), append(used, iv)
		}
		if !bytes.HasPrefix(data, again.Bytes()) {
			t.Fatalf("written back as %x", again.Bytes())
		}
		if len(used) < 200 && errors.Is(err, ErrReuse) != reused {
			t.Fatalf("Check says %v, the naive search %v", err, reused)
		}
	})
}
