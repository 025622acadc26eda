package consensus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sort"
)

// reign is a leadership as a log shows it: it wrote the entries from first on, up to those
// of the next one.
type reign struct {
	first uint64
	led
}

// reigns are the leaderships that wrote the end of this log, the latest first, as far as
// its entries are there.
func (l *logStore) reigns() (all []reign, err error) {
	first, err1 := l.recentLog.FirstIndex()
	last, err2 := l.recentLog.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	if at := l.marked(); last == 0 && at.index > 0 {
		of, err := l.at(at.index)
		if err != nil || !of.by.known {
			return nil, err // to say that it has no number would be to say that it is another one
		}
		return []reign{{at.index, of}}, nil
	}
	for last > 0 && last >= first && len(all) < MaxReigns {
		of, err := l.at(last)
		if err != nil {
			return nil, err
		}
		begun := sort.Search(int(last-first), func(n int) bool { // terms only rise
			earlier, failed := l.at(first + uint64(n))
			err = errors.Join(err, failed)
			return earlier.term >= of.term
		})
		if err != nil {
			return nil, err
		}
		all = append(all, reign{first + uint64(begun), of})
		last = first + uint64(begun) - 1
	}
	return all, nil
}

// leaderAt is which leadership wrote the entry at an index, by what the list reaches back to.
func leaderAt(past []reign, index uint64) (of led, known bool) {
	for _, r := range past {
		if r.first <= index {
			return r.led, true
		}
	}
	return of, false
}

const (
	reignsMagic = "\x00mc2"
	reignSize   = 8 + 8 + 1 // and the number
)

// reignsBytes says them behind a word; an older build reads no further than its own.
func reignsBytes(past []reign) []byte {
	b := []byte(reignsMagic)
	for _, r := range past {
		b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, r.first), r.term)
		b = append(append(b, byte(len(r.by.id))), r.by.id...)
	}
	return b
}

// readReigns takes them off the end of what a candidate says; none where it said none, or
// what cannot be read.
func readReigns(b []byte) (past []reign, rest []byte) {
	at := bytes.Index(b, []byte(reignsMagic))
	if at < 0 {
		return nil, b
	}
	rest, b = b[:at], b[at+len(reignsMagic):]
	for len(b) > 0 {
		if len(b) < reignSize || int(b[16]) > originSize || len(b) < reignSize+int(b[16]) || len(past) >= MaxReigns {
			return nil, rest
		}
		end := reignSize + int(b[16])
		past = append(past, reign{binary.BigEndian.Uint64(b), led{binary.BigEndian.Uint64(b[8:]), origin{string(b[reignSize:end]), true}}})
		b = b[end:]
	}
	return past, rest
}

// candidate is what one says of its log beside a request for votes; false: the log has
// changed since raft asked.
func (r *Raft) candidate(index, term uint64) (said []byte, ok bool) {
	last, err := r.file.at(index)
	if err != nil || last.term != term {
		return nil, false
	}
	said = word{r.incarnation(), last.by}.bytes()
	if past, err := r.file.reigns(); err == nil {
		said = append(said, reignsBytes(past)...)
	}
	return said, true
}

// overrules says that a candidate's log, which ends at an index, has others in the place of
// entries that were committed here. Both were, if a disk was put back: it was led in a term
// that whoever led here never heard of, and may well be the higher one. As leader it would
// get nothing committed, for this replica keeps what it has (guard).
func (r *Raft) overrules(end, incarnation uint64, past []reign) bool {
	if len(past) == 0 {
		return false
	}
	incarnation = max(incarnation, r.incarnation()) // zero is said by one whose state is not made yet
	at := r.floor.parting(r.file, end, incarnation, past)
	if at == 0 {
		return false
	}
	r.floor.disown(incarnation, past, at)
	return true
}

// parting is the first entry known to be committed in whose place a candidate has another
// one, or none; zero: there is none.
func (f *floor) parting(l *logStore, end, incarnation uint64, past []reign) (at uint64) {
	applied := l.applied()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range slices.Concat([]Known{applied}, f.terms, f.heard) {
		index := l.committed(k)
		if index == 0 || k.Incarnation < incarnation || at != 0 && index >= at {
			continue
		}
		own, err := l.at(index)
		of, known := leaderAt(past, index)
		if err == nil && (index > end || known && (of.term != own.term || of.by.differs(own.by))) {
			at = index
		}
	}
	return at
}

// disown takes the reigns that reach beyond an entry for another history's. Whatever was
// committed in them, and is told of, this log lacks for good, as they lack what it has: it
// keeps nobody from voting nor from standing, or the voters of neither history, each below
// the other's floor, would ever have a leader. So where most went on it goes on.
func (f *floor) disown(incarnation uint64, past []reign, beyond uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.others = nil
	for _, r := range past {
		if f.others = append(f.others, Known{Incarnation: incarnation, Term: r.term, By: r.by.id}); r.first <= beyond {
			break
		}
	}
	if f.disowned(f.known) {
		f.known = Known{}
		for _, k := range f.heard {
			f.raise(k)
		}
	}
}

// disowned says that a word is of another history; the caller holds mu.
func (f *floor) disowned(k Known) bool {
	return slices.ContainsFunc(f.others, func(o Known) bool {
		return k.Incarnation == o.Incarnation && k.Term == o.Term && (k.By == o.By || k.By == "")
	})
}
