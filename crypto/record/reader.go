package record

import (
	"fmt"
	"io"
)

// Reader opens records. It belongs to one goroutine at a time. While nothing comes it
// keeps no buffer, and an error of the connection below, such as that of a deadline, costs
// nothing that has come: the next Read goes on from there. Only the end of the
// connection is an end here too, and only the other end's word makes it io.EOF.
type Reader struct {
	below io.Reader
	key   Key
	next  uint64 // the next record's number

	header [headerSize]byte
	nonce  [ivSize]byte      // of the present record
	short  [shortRecord]byte // room for one that is no longer, as most are
	got    int               // bytes of the present record, header included; 0: none is begun
	bytes  []byte            // of one that is begun and has its header, room for the rest; else content not asked for yet
	err    error             // its last word
}

// NewReader makes one for a key that no other Reader has or had.
func NewReader(below io.Reader, key Key) *Reader { return &Reader{below: below, key: key} }

// Read returns bytes of one record at most.
func (r *Reader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if r.got > 0 || len(r.bytes) == 0 {
		if err := r.advance(); err != nil {
			return 0, err
		}
	}
	n := copy(b, r.bytes)
	if r.bytes = r.bytes[n:]; len(r.bytes) == 0 {
		r.bytes = nil // it may be long until the next one
	}
	return n, nil
}

// Between reports that nothing of a record is here: there is no more to read before more
// comes.
func (r *Reader) Between() bool { return r.got == 0 && len(r.bytes) == 0 }

// advance takes in the next record.
func (r *Reader) advance() error {
	if r.err != nil {
		return r.err
	}
	err := r.fill()
	switch {
	case err == io.EOF:
		r.err = io.ErrUnexpectedEOF // nobody said an end
	case err != nil:
		return err
	default:
		r.bytes, r.err = r.open()
		r.got = 0
	}
	return r.err
}

// fill reads until the present record is whole.
func (r *Reader) fill() error {
	for r.got < headerSize {
		n, err := r.below.Read(r.header[r.got:])
		if r.got += n; err != nil && r.got < headerSize {
			return err
		}
	}
	if r.bytes == nil {
		size, err := parseHeader(r.header)
		if err != nil {
			r.err = err
			return err
		}
		r.bytes = r.room(size)
	}
	for r.got < headerSize+len(r.bytes) {
		n, err := r.below.Read(r.bytes[r.got-headerSize:])
		if r.got += n; err != nil && r.got < headerSize+len(r.bytes) {
			return err
		}
	}
	return nil
}

// room is where a record of so many bytes goes.
func (r *Reader) room(size int) []byte {
	if size <= len(r.short) {
		return r.short[:size]
	}
	return make([]byte, size)
}

// open returns what the present record carries; io.EOF is the other end's word that it was
// the last.
func (r *Reader) open() ([]byte, error) {
	if r.next >= MaxRecords {
		return nil, ErrExhausted
	}
	key := *r.key.sealed
	r.nonce = key.nonce(r.next)
	inner, err := key.cipher().Open(r.bytes[:0], r.nonce[:], r.bytes, r.header[:])
	if err != nil {
		return nil, ErrForged
	}
	r.next++
	kind, content := split(inner)
	switch {
	case len(content) > MaxContent:
		return nil, fmt.Errorf("%w: %d bytes", ErrRecord, len(content))
	case kind == kindData && len(content) > 0:
		return content, nil
	case kind == kindAlert && len(content) == 2 && content[1] == closeNotify:
		return nil, io.EOF
	}
	// Other alerts, keys to change and empty records are TLS's; no Writer makes one.
	return nil, fmt.Errorf("%w: kind %d, %d bytes", ErrRecord, kind, len(content))
}

// split takes the padding off, and the kind that stands before it; kind 0 is none.
func split(inner []byte) (kind byte, content []byte) {
	for n := len(inner) - 1; n >= 0; n-- {
		if inner[n] != 0 {
			return inner[n], inner[:n]
		}
	}
	return 0, nil
}
