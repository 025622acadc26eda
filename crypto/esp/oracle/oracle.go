// Package oracle finds a nonce that was used twice (I2). Every process of a
// test run appends each interval of counters to one shared file before using
// it, so that the record survives kill -9; afterwards Check reads them all.
//
// The package owns the record format and the search for overlaps. It does not
// open files, and it is no part of a production build's packet path.
package oracle

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

var (
	// ErrReuse says that a counter was handed out twice under one key.
	ErrReuse = errors.New("oracle: nonce reused")
	// ErrRecord says that the input is not a sequence of records.
	ErrRecord = errors.New("oracle: malformed record")
)

// RecordSize is the length of a record: key hash 16, first counter 8, count 8,
// both big endian.
const RecordSize = hashSize + 8 + 8

const hashSize = 16

var _ esp.Ledger = (*Recorder)(nil)

// Recorder writes one record for each reservation.
type Recorder struct {
	w      io.Writer
	failed func(error)
}

// NewRecorder returns a Recorder that gives each record to w in a single Write,
// which is atomic for a file opened with O_APPEND. w must allow concurrent
// writes. A record that cannot be written makes the oracle blind, so failed is
// called with the error, before the counters are used, and should end the
// process.
func NewRecorder(w io.Writer, failed func(error)) *Recorder {
	return &Recorder{w: w, failed: failed}
}

// Reserved implements esp.Ledger.
func (r *Recorder) Reserved(keyHash [16]byte, first, count uint64) {
	record := make([]byte, 0, RecordSize)
	record = append(record, keyHash[:]...)
	record = binary.BigEndian.AppendUint64(record, first)
	record = binary.BigEndian.AppendUint64(record, count)
	if _, err := r.w.Write(record); err != nil {
		r.failed(fmt.Errorf("oracle: record of counter %d: %w", first, err))
	}
}

// interval is first..last, both included.
type interval struct{ first, last uint64 }

// Check reads every record and returns ErrReuse, naming key hash and interval,
// if two intervals of one key overlap. A torn last record is ignored: its
// process died before it could use the counters.
func Check(r io.Reader) error {
	keys, err := read(bufio.NewReader(r))
	if err != nil {
		return err
	}
	for hash, used := range keys {
		if twice, found := overlap(used); found {
			return fmt.Errorf("%w: key %x, counters %d to %d", ErrReuse, hash, twice.first, twice.last)
		}
	}
	return nil
}

func read(r io.Reader) (map[[hashSize]byte][]interval, error) {
	keys := make(map[[hashSize]byte][]interval)
	var record [RecordSize]byte
	for n := 0; ; n++ {
		_, err := io.ReadFull(r, record[:])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return keys, nil
		}
		if err != nil {
			return nil, fmt.Errorf("oracle: record %d: %w", n, err)
		}
		hash, used, err := parse(record)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", n, err)
		}
		keys[hash] = extend(keys[hash], used)
	}
}

func parse(record [RecordSize]byte) (hash [hashSize]byte, used interval, err error) {
	copy(hash[:], record[:])
	first := binary.BigEndian.Uint64(record[hashSize:])
	count := binary.BigEndian.Uint64(record[hashSize+8:])
	if first == 0 || count == 0 || first+count-1 < first {
		return hash, used, fmt.Errorf("%w: first %d, count %d", ErrRecord, first, count)
	}
	return hash, interval{first, first + count - 1}, nil
}

// extend appends used, or lengthens the last interval if used continues it:
// that keeps a long transfer in one interval and hides no overlap.
func extend(all []interval, used interval) []interval {
	if n := len(all); n > 0 && all[n-1].last+1 == used.first {
		all[n-1].last = used.last
		return all
	}
	return append(all, used)
}

func overlap(all []interval) (twice interval, found bool) {
	slices.SortFunc(all, func(a, b interval) int { return cmp.Compare(a.first, b.first) })
	for n := 1; n < len(all); n++ {
		before, here := all[n-1], all[n]
		if here.first <= before.last {
			return interval{here.first, min(here.last, before.last)}, true
		}
	}
	return interval{}, false
}
