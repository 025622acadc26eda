package consensus

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// origin is which leadership wrote an entry. A voter whose disk was put back has forgotten
// terms, and the leader that it helps to make may get one that was led before: index and
// term do not name an entry then. So each leadership has a random number, which travels
// and is stored with its entries as raft's Extensions. Two logs whose entries at one index
// agree in term and number are the same up to there (Raft, 5.3): within one log the entries
// of a term are of one leadership.
type origin struct {
	id    string // empty: an older build's
	known bool   // else a snapshot stands for the entry, and nobody said whose it was
}

const originSize = 16 // bytes

func originOf(entry *raft.Log) origin { return origin{string(entry.Extensions), true} }

func newOrigin() origin {
	id := make([]byte, originSize)
	_, _ = rand.Read(id) // it never fails
	return origin{string(id), true}
}

// differs is false where one of them is not known: then the term alone counts, as it did
// before there were origins.
func (o origin) differs(p origin) bool { return o.known && p.known && o.id != p.id }

// sign marks what this leader is about to append. What came from another leader has its
// origin, or says that it has none: see hear.
func (l *logStore) sign(entries []*raft.Log) {
	for _, entry := range entries {
		if entry.Extensions != nil {
			continue
		}
		leads := l.leads.Load()
		if leads == nil || entry.Term != leads.term {
			leads = &led{entry.Term, newOrigin()}
			l.leads.Store(leads)
		}
		entry.Extensions = []byte(leads.by.id)
	}
}

// led is a term and the number of the leadership in it.
type led struct {
	term uint64
	by   origin
}

// at is which entry stands at an index.
func (l *logStore) at(index uint64) (led, error) {
	var entry raft.Log
	err := l.recentLog.GetLog(index, &entry)
	if err == nil {
		return led{entry.Term, originOf(&entry)}, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(err, raft.ErrLogNotFound) && l.snapshot.stands(index) {
		return led{l.snapshot.term, l.snapshotBy}, nil
	}
	return led{}, err
}

// differs says that another entry stands there than the one of that term and origin.
func (l *logStore) differs(index uint64, o led) bool {
	own, err := l.at(index)
	return err == nil && (own.term != o.term || own.by.differs(o.by))
}

// word is what a server says of its log beside a request: in a field that raft does not
// read any more, so an older build passes it over.
type word struct {
	incarnation uint64 // of its state; zero: it has none yet
	by          origin // of the entry that the request names by index and term
}

const wordMagic = "\x00mc1" // no address begins with it

func (w word) bytes() []byte {
	b := binary.BigEndian.AppendUint64([]byte(wordMagic), w.incarnation)
	if w.by.known {
		b = append(append(b, 1), w.by.id...)
	}
	return b
}

// readWord is false for an older build's request.
func readWord(raw []byte) (w word, ok bool) {
	rest, ok := strings.CutPrefix(string(raw), wordMagic)
	if !ok || len(rest) < 8 || len(rest) > 9+originSize {
		return w, false
	}
	w.incarnation = binary.BigEndian.Uint64([]byte(rest))
	if rest = rest[8:]; rest == "" {
		return w, true
	}
	w.by = origin{rest[1:], true}
	return w, rest[0] == 1
}

const originsKey = "origins"

// snapshotOrigin says on disk whose entry a snapshot ends with.
type snapshotOrigin struct {
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
	By    []byte `json:"by"`
}

// noteOrigin keeps that of a snapshot before the snapshot is on disk; those of the ones that
// are there stay, for it may never get there, and however many do not.
func (l *logStore) noteOrigin(at mark, by origin, there []mark) error {
	noted, err := l.origins()
	if err != nil {
		return err
	}
	noted = slices.DeleteFunc(noted, func(o snapshotOrigin) bool {
		of := mark{o.Index, o.Term}
		return of == at || !slices.Contains(there, of)
	})
	raw, err := json.Marshal(append(noted, snapshotOrigin{at.index, at.term, []byte(by.id)}))
	if err != nil {
		return err
	}
	return l.recentLog.Set([]byte(originsKey), raw)
}

func (l *logStore) origins() (noted []snapshotOrigin, err error) {
	raw, err := l.recentLog.Get([]byte(originsKey))
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return nil, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &noted)
	}
	return noted, err
}

// snapshotOrigin is whose entry a snapshot ends with: what was said of it, or the entry that the
// log has there.
func (l *logStore) snapshotOrigin(at mark) (origin, error) {
	noted, err := l.origins()
	if err != nil {
		return origin{}, err
	}
	for _, o := range noted {
		if o.Index == at.index && o.Term == at.term {
			return origin{string(o.By), true}, nil
		}
	}
	var entry raft.Log
	err = l.recentLog.GetLog(at.index, &entry)
	switch {
	case errors.Is(err, raft.ErrLogNotFound), err == nil && entry.Term != at.term:
		return origin{}, nil
	case err != nil:
		return origin{}, err
	}
	return originOf(&entry), nil
}
