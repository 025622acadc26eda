package record

import "io"

// Ledger is told of every number before it seals a record (I2). Production has none.
type Ledger interface {
	Reserved(keyHash [16]byte, first, count uint64)
}

// Writer makes records. It belongs to one goroutine at a time.
type Writer struct {
	below  io.Writer
	key    Key
	ledger Ledger
	next   uint64 // the next record's number; only ever counted up
	err    error  // its last word
	ahead  []byte // goes out with the next record, before it

	nonce [ivSize]byte                   // of the record that is being made
	short [headerSize + shortRecord]byte // room for one that is no longer, as most are
}

// NewWriter makes one for a key that no other Writer has or had. The ledger may be nil.
func NewWriter(below io.Writer, key Key, ledger Ledger) *Writer {
	return &Writer{below: below, key: key, ledger: ledger}
}

// Ahead has what another protocol said last go out with the next record, in one write with it.
func (w *Writer) Ahead(last []byte) { w.ahead = last }

// Write sends b, in as many records as it needs. A failure of the connection below is the
// Writer's end, for what came of the record is not known.
func (w *Writer) Write(b []byte) (n int, err error) {
	for n < len(b) {
		piece := b[n:min(len(b), n+MaxContent)]
		if w.err == nil && w.next >= MaxRecords-1 { // the last is for the end
			w.err = ErrExhausted
		}
		if err := w.record(kindData, piece); err != nil {
			return n, err
		}
		n += len(piece)
	}
	return n, w.err
}

// Close says that nothing more comes, so that whoever cuts the connection is told from an
// end. It does not close the connection.
func (w *Writer) Close() error {
	if w.err == ErrExhausted {
		w.err = nil
	}
	if err := w.record(kindAlert, []byte{warning, closeNotify}); err != nil {
		return err
	}
	w.err = ErrClosed
	return nil
}

// record seals one and sends it. Its number is spent before anything is made of it.
func (w *Writer) record(kind byte, content []byte) error {
	if w.err != nil {
		return w.err
	}
	number, key := w.next, *w.key.sealed
	w.next++
	if w.ledger != nil {
		w.ledger.Reserved(key.oracleHash(), number+1, 1) // it counts from 1
	}
	frame := w.room(len(content))
	putHeader(frame, len(content)+overhead)
	inner := append(append(frame, content...), kind)
	w.nonce = key.nonce(number)
	frame = key.cipher().Seal(frame, w.nonce[:], inner[headerSize:], frame)
	if len(w.ahead) > 0 {
		frame, w.ahead = append(w.ahead, frame...), nil
	}
	_, w.err = w.below.Write(frame)
	return w.err
}

// room is for the record of so much content, with a header that is to be filled in.
func (w *Writer) room(content int) []byte {
	if size := headerSize + content + overhead; size > len(w.short) {
		return make([]byte, headerSize, size)
	}
	return w.short[:headerSize]
}
