package consensus

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// mappedFixture is a log's file with entries of 1 KiB from first to last.
func mappedFixture(t *testing.T, first, last uint64) *mappedLog {
	t.Helper()
	m, err := openMapped(filepath.Join(t.TempDir(), logFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	m.fill(t, first, last)
	return m
}

func (m *mappedLog) fill(t *testing.T, first, last uint64) {
	t.Helper()
	var entries []*raft.Log
	for i := first; i <= last; i++ {
		entries = append(entries, &raft.Log{Index: i, Term: 1, Data: dataOf(i)})
	}
	if err := m.StoreLogs(entries); err != nil {
		t.Fatal(err)
	}
}

func dataOf(i uint64) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 512) }

// readAll reads every entry, and fails where one is another than was written.
func (m *mappedLog) readAll(t *testing.T, first, last uint64) {
	t.Helper()
	for i := first; i <= last; i++ {
		var e raft.Log
		if err := m.GetLog(i, &e); err != nil || e.Index != i || !bytes.Equal(e.Data, dataOf(i)) {
			t.Fatalf("entry %d is read as %d, %v", i, e.Index, err)
		}
	}
}

// resident is how many KiB of the file count as this process's memory.
func (m *mappedLog) resident(t *testing.T) (kib int) {
	t.Helper()
	from, to, err := m.mapping()
	if err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(all), fmt.Sprintf("%x-%x r--s", from, to))
	if !found {
		t.Fatal("the mapping is not shown")
	}
	for line := range strings.Lines(rest) {
		if n, _ := fmt.Sscanf(line, "Rss: %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatal("what is resident is not shown")
	return 0
}

// TestPagesAreGivenBack: what was read of the log counts as no memory for ever, and is
// there when it is read again, also after the mapping moved.
func TestPagesAreGivenBack(t *testing.T) {
	const some, more = 2_000, 12_000
	m := mappedFixture(t, 1, some)
	for _, last := range []uint64{some, more} {
		m.readAll(t, 1, last)
		if had := m.resident(t); had < int(last)/2 {
			t.Fatalf("%d KiB of %d entries are resident: this test shows nothing", had, last)
		}
		if err := m.giveBack(); err != nil {
			t.Fatal(err)
		}
		if left := m.resident(t); left > 0 {
			t.Errorf("%d KiB are kept", left)
		}
		m.readAll(t, 1, last)
		if last == some {
			m.fill(t, some+1, more)
		}
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.giveBack(); err != nil {
		t.Errorf("of a log that is closed: %v", err)
	}
}

// TestNothingMovesTheMapping while its pages are given back: what else stood there then
// would lose what it holds.
func TestNothingMovesTheMapping(t *testing.T) {
	m := mappedFixture(t, 1, 2)
	for what, do := range map[string]func() error{
		"StoreLog":    func() error { return m.StoreLog(&raft.Log{Index: 3, Term: 1}) },
		"StoreLogs":   func() error { return m.StoreLogs([]*raft.Log{{Index: 3, Term: 1}}) },
		"DeleteRange": func() error { return m.DeleteRange(1, 1) },
		"Set":         func() error { return m.Set([]byte("k"), []byte("v")) },
		"SetUint64":   func() error { return m.SetUint64([]byte("n"), 1) },
	} {
		m.readAll(t, 2, 2)
		m.moves.Lock()
		if err := m.giveBack(); err != nil || m.resident(t) == 0 {
			t.Errorf("while it is written: %v, %d KiB are resident", err, m.resident(t))
		}
		done := make(chan error, 1)
		go func() { done <- do() }()
		select {
		case err := <-done:
			t.Errorf("%s does not wait", what)
			done <- err
		case <-time.After(20 * time.Millisecond):
		}
		m.moves.Unlock()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
