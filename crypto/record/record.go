// Package record protects a stream of bytes as the record layer of TLS 1.3 does (RFC 8446
// 5.1 to 5.5): TLS_CHACHA20_POLY1305_SHA256's records, under keys of a handshake's exporter.
// It is for what goes on when crypto/tls, which keeps 7 KiB for a connection that rests, is
// let go: a Writer and a Reader keep a key, a number, and what has come of one record.
//
// It owns the format, the keys, and that no number is used twice. It does not own the
// connection, the handshake, or when one takes over from the other (node/channel).
package record

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// Errors of a Reader or Writer. Each is its last word: whatever it is asked later, it
// says the same.
var (
	// ErrRecord says that what came is no record, or none that may come.
	ErrRecord = errors.New("record: malformed record")
	// ErrForged says that a record is not the other end's next one: changed, repeated,
	// or out of its turn.
	ErrForged = errors.New("record: a record does not open")
	// ErrExhausted says that a key has protected as many records as it may.
	ErrExhausted = errors.New("record: the key is used up")
	// ErrClosed says that the Writer has said its end.
	ErrClosed = errors.New("record: the end was said")
)

const (
	headerSize = 5
	kindAlert  = 21
	kindData   = 23 // of every protected record, whatever is inside
	version    = 0x0303
	overhead   = 1 + chacha20poly1305.Overhead // the inner kind, and the tag

	// shortRecord is how long a record may be behind its header that needs no memory of its own:
	// one of a length without a body, which is a beat (node/loop).
	shortRecord = 4 + overhead

	warning     = 1 // of an alert
	closeNotify = 0
)

// putHeader begins a record of so many bytes behind its header.
func putHeader(b []byte, size int) {
	b[0] = kindData
	binary.BigEndian.PutUint16(b[1:], version)
	binary.BigEndian.PutUint16(b[3:], uint16(size))
}

// parseHeader returns how many bytes follow the header of a protected record.
func parseHeader(b [headerSize]byte) (size int, err error) {
	size = sizeIn(b)
	if b[0] != kindData || binary.BigEndian.Uint16(b[1:]) != version || size < overhead || size > MaxRecord {
		return 0, fmt.Errorf("%w: header %x", ErrRecord, b)
	}
	return size, nil
}

// sizeIn is what a header says of any record, protected or not.
func sizeIn(header [headerSize]byte) int { return int(binary.BigEndian.Uint16(header[3:])) }
