package consensus

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
)

// recentFixture is a log with as many entries as are kept, and some more.
func recentFixture(t *testing.T) (l *logStore, last uint64) {
	l, err := openLog(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	last = MaxRecent + 10
	for i := uint64(1); i <= last; i++ {
		if err := l.StoreLogs([]*raft.Log{{Index: i, Term: 1, Data: []byte{byte(i)}}}); err != nil {
			t.Fatal(err)
		}
	}
	return l, last
}

// reads is what reading an entry makes; none, where it is not read from the file.
func reads(t *testing.T, l *logStore, index uint64) (made float64) {
	var entry raft.Log
	made = testing.AllocsPerRun(5, func() {
		if err := l.GetLog(index, &entry); err != nil {
			t.Fatal(err)
		}
	})
	if entry.Index != index {
		t.Errorf("entry %d is read as %d", index, entry.Index)
	}
	return made
}

// TestRecentEntriesAreNotReadBack: what raft has just written it reads again, for each other
// server, and to apply it. None of that is a look into the file.
func TestRecentEntriesAreNotReadBack(t *testing.T) {
	l, last := recentFixture(t)
	for index := last - MaxRecent + 1; index <= last; index++ {
		if made := reads(t, l, index); made > 0 {
			t.Fatalf("entry %d is read from the file", index)
		}
	}
	if made := reads(t, l, last-MaxRecent); made == 0 {
		t.Errorf("an entry is kept beyond the last %d", MaxRecent)
	}
}

// TestRecentEntriesAreSmall: a large one is no reason to take its memory for long.
func TestRecentEntriesAreSmall(t *testing.T) { // I10
	l, last := recentFixture(t)
	large := raft.Log{Index: last + 1, Term: 1, Data: make([]byte, MaxRecentEach+1)}
	if err := l.StoreLogs([]*raft.Log{&large}); err != nil {
		t.Fatal(err)
	}
	if reads(t, l, last+1) == 0 {
		t.Errorf("an entry of %d bytes is kept", len(large.Data))
	}
}

// TestRecentEntriesAreThoseOfTheFile: what is overwritten, removed or could not be written is
// never read from memory.
func TestRecentEntriesAreThoseOfTheFile(t *testing.T) {
	l, last := recentFixture(t)
	var entry raft.Log
	if err := l.DeleteRange(last-1, last); err != nil {
		t.Fatal(err)
	}
	for _, index := range []uint64{last - 1, last} {
		if err := l.GetLog(index, &entry); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry %d is removed, and read: %v", index, err)
		}
	}
	if err := l.StoreLogs([]*raft.Log{{Index: last - 1, Term: 2}}); err != nil {
		t.Fatal(err)
	}
	if err := l.GetLog(last-1, &entry); err != nil || entry.Term != 2 {
		t.Errorf("entry of term %d, %v; term 2 was written over it", entry.Term, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.StoreLogs([]*raft.Log{{Index: last - 2, Term: 3}}); err == nil {
		t.Fatal("a closed file was written")
	}
	if l.recall(last-2, &entry) {
		t.Errorf("entry of term %d is kept, and was perhaps not written", entry.Term)
	}
}
