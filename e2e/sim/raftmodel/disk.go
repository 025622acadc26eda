package raftmodel

import (
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// kind is what an entry is.
type kind int

const (
	command kind = iota
	noop         // begins a term
	barrier
	servers // the configuration from here on
)

// entry is one place of the log.
type entry struct {
	place
	kind    kind
	data    []byte
	servers []consensus.Server
}

// place is where a log ends, or an entry stands. by is a number of the leadership that
// wrote it, for a disk that was put back may have a term led twice.
type place struct{ index, term, by uint64 }

// before says that a log which ends here lacks one that ends there (Raft, 5.4.1).
func (p place) before(o place) bool { return p.term < o.term || p.term == o.term && p.index < o.index }

// snapshot is the state in place of the entries up to one.
type snapshot struct {
	place
	servers   []consensus.Server
	serversAt uint64
	state     *registry.State // never changed
}

// Image is a disk's content. Copies share what they have in common.
type Image struct {
	term     uint64 // the newest known
	votedIn  uint64
	votedFor int
	entries  []entry // without a gap, from behind the snapshot or earlier
	snapshot snapshot
	kept     consensus.Known // what was told to be committed, and another leader wanted to overwrite
}

// disk is what a server has left after its process ended.
type disk struct {
	Image
	past []Image // before each of the last writes
}

// write is one durable change.
func (d *disk) write(change func(*Image)) {
	d.past = append(d.past[max(0, len(d.past)-MaxPast+1):], d.Image)
	change(&d.Image)
}

// end is where the log ends.
func (i *Image) end() place {
	if n := len(i.entries); n > 0 && i.entries[n-1].index > i.snapshot.index {
		return i.entries[n-1].place
	}
	return i.snapshot.place
}

// first is the index of the oldest entry; zero: none.
func (i *Image) first() uint64 {
	if len(i.entries) == 0 {
		return 0
	}
	return i.entries[0].index
}

// at finds an entry.
func (i *Image) at(index uint64) (e entry, ok bool) {
	first := i.first()
	if first == 0 || index < first || index-first >= uint64(len(i.entries)) {
		return entry{}, false
	}
	return i.entries[index-first], true
}

// placeAt is the place of an entry, which the snapshot knows of its own.
func (i *Image) placeAt(index uint64) (p place, ok bool) {
	if index == i.snapshot.index {
		return i.snapshot.place, true // of index 0, too, which is before the first
	}
	e, ok := i.at(index)
	return e.place, ok
}

// from lists at most so many entries from an index on; not ok if a snapshot is needed.
func (i *Image) from(index uint64, most int) (list []entry, ok bool) {
	if index > i.end().index {
		return nil, true
	}
	if _, ok := i.at(index); !ok {
		return nil, false
	}
	list = i.entries[index-i.first():]
	return list[:min(len(list), most):min(len(list), most)], true
}

// cut removes the entries from an index on. Images that share them keep them.
func (i *Image) cut(index uint64) {
	if first := i.first(); first != 0 && index < first+uint64(len(i.entries)) {
		i.entries = slices.Clip(i.entries[:max(index, first)-first])
	}
}

// trim removes the entries before an index.
func (i *Image) trim(index uint64) {
	for i.first() != 0 && i.first() < index {
		i.entries = i.entries[min(index-i.first(), uint64(len(i.entries))):]
	}
}

// configuration is the newest in the log.
func (i *Image) configuration() (list []consensus.Server, at uint64) {
	for _, e := range slices.Backward(i.entries) {
		if e.kind == servers && e.index > i.snapshot.serversAt {
			return e.servers, e.index
		}
	}
	return i.snapshot.servers, i.snapshot.serversAt
}
