package consensus

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/hashicorp/raft"
)

// TestHolderOfAHigherTerm: whoever holds lost entries may have them of a term above the one
// that the others lead in. It is not elected by them, whose entries it lacks, and what they
// are told of its entries keeps them from electing nobody.
func TestHolderOfAHigherTerm(t *testing.T) {
	for _, told := range []bool{false, true} {
		t.Run(fmt.Sprintf("told %v", told), func(t *testing.T) {
			t.Parallel()
			var says heard
			c := newCluster(t, 3, func(config *Config) { config.Told, config.Known = says.own, says.others })
			c.must(c.leader(), tick(1))
			c.agree(1)
			c.stop(2)
			c.stop(1)
			image := t.TempDir()
			c.ok(os.CopyFS(image, os.DirFS(c.dirs[1])))
			c.setTerm(1, knows(c.nodes[0]).Term+9)
			c.start(1, false)
			c.must(c.leader(), tick(2))
			c.until("both have it", func() bool { return ticks(c.nodes[0]) == 3 && ticks(c.nodes[1]) == 3 })
			known := knows(c.leader())
			c.stop(0)
			c.stop(1)
			c.putBack(1, image)
			c.start(1, false)
			c.start(2, false)
			c.must(c.leader(), tick(3))
			c.until("the two have that", func() bool { return ticks(c.nodes[1]) == 4 && ticks(c.nodes[2]) == 4 })
			if term := knows(c.leader()).Term; term >= known.Term {
				t.Fatalf("they lead in %d, not below %d", term, known.Term)
			}
			says.own = known
			if told {
				for _, r := range c.nodes[1:] {
					r.Learn(known)
				}
			}
			c.start(0, false)
			c.until("the holder keeps what it has", func() bool { return errors.Is(c.nodes[0].Disk(), ErrFork) })
			c.must(c.leader(), tick(4))
			c.until("the two go on", func() bool { return ticks(c.nodes[1]) == 8 && ticks(c.nodes[2]) == 8 })
			if ticks(c.nodes[0]) > 3 {
				t.Errorf("the holder has %d ticks", ticks(c.nodes[0]))
			}
		})
	}
}

// TestReigns are read as they were said, and nothing is read of what cannot be.
func TestReigns(t *testing.T) {
	past := []reign{{9, led{4, newOrigin()}}, {3, led{2, origin{known: true}}}}
	said := append(word{1, past[0].by}.bytes(), reignsBytes(past)...)
	got, rest := readReigns(said)
	if w, ok := readWord(rest); !ok || w.by != past[0].by || !slices.Equal(got, past) {
		t.Errorf("%+v, %+v", got, w)
	}
	for n := range said {
		if got, _ := readReigns(said[:n]); len(got) > 1 {
			t.Errorf("%d bytes say %+v", n, got)
		}
	}
	if of, known := leaderAt(past, 8); of != past[1].led || !known {
		t.Errorf("8 is of %+v", of)
	}
	if _, known := leaderAt(past, 2); known {
		t.Error("who led before is known")
	}
}

// TestReignsOfALog: each leadership with its first entry, the latest first; of a log that is all
// snapshot the one that the snapshot ends with, and none where nobody knows which that is.
func TestReignsOfALog(t *testing.T) {
	l, first := openTestLog(t, nil), newOrigin()
	second := newOrigin()
	for index, by := range []led{{1, first}, {1, first}, {1, first}, {5, second}, {5, second}} {
		if err := l.StoreLogs([]*raft.Log{{Index: uint64(index) + 1, Term: by.term, Extensions: []byte(by.by.id)}}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := l.reigns(); err != nil || !slices.Equal(got, []reign{{4, led{5, second}}, {1, led{1, first}}}) {
		t.Errorf("%+v, %v", got, err)
	}
	for by, want := range map[origin][]reign{second: {{9, led{5, second}}}, {}: nil} {
		l := openTestLog(t, nil)
		l.snapshot, l.snapshotBy = mark{9, 5}, by
		if got, err := l.reigns(); err != nil || !slices.Equal(got, want) {
			t.Errorf("behind a snapshot of %+v: %+v, %v", by, got, err)
		}
	}
	if of, known := leaderAt([]reign{{4, led{5, second}}}, 4); !known || of.term != 5 {
		t.Error("a leadership begins with its first entry")
	}
	var many []reign
	for range MaxReigns + 1 { // I10
		many = append(many, reign{1, led{1, first}})
	}
	if got, _ := readReigns(reignsBytes(many)); len(got) != 0 {
		t.Errorf("%d are read", len(got))
	}
	if got, _ := readReigns(reignsBytes([]reign{{1, led{1, origin{string(make([]byte, originSize+1)), true}}}})); len(got) != 0 {
		t.Error("a number that is too long is read")
	}
}
