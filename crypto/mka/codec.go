package mka

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unicode/utf8"
)

// Version is the version of MKA spoken here, and the first field of every
// message but the rekey part.
const Version uint16 = 1

// encoder appends fields, big endian.
type encoder struct{ out []byte }

func (e *encoder) u8(v uint8)   { e.out = append(e.out, v) }
func (e *encoder) u16(v uint16) { e.out = binary.BigEndian.AppendUint16(e.out, v) }
func (e *encoder) u32(v uint32) { e.out = binary.BigEndian.AppendUint32(e.out, v) }
func (e *encoder) u64(v uint64) { e.out = binary.BigEndian.AppendUint64(e.out, v) }
func (e *encoder) raw(b []byte) { e.out = append(e.out, b...) }

// text writes a length byte and the string.
func (e *encoder) text(s string) {
	e.u8(uint8(len(s)))
	e.out = append(e.out, s...)
}

// addr writes the length of the address (4 or 16) and its bytes.
func (e *encoder) addr(a netip.Addr) {
	b := a.AsSlice()
	e.u8(uint8(len(b)))
	e.raw(b)
}

// decoder takes fields off the front. After the first field that is not there
// it is bad and every field reads as zero, so a parser checks once, at its end.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.rest) {
		d.bad = true
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

// into fills dst; dst keeps its zeroes when the field is not there.
func (d *decoder) into(dst []byte) { copy(dst, d.take(len(dst))) }

func (d *decoder) u8() uint8 {
	var b [1]byte
	d.into(b[:])
	return b[0]
}

func (d *decoder) u16() uint16 {
	var b [2]byte
	d.into(b[:])
	return binary.BigEndian.Uint16(b[:])
}

func (d *decoder) u32() uint32 {
	var b [4]byte
	d.into(b[:])
	return binary.BigEndian.Uint32(b[:])
}

func (d *decoder) u64() uint64 {
	var b [8]byte
	d.into(b[:])
	return binary.BigEndian.Uint64(b[:])
}

func (d *decoder) text() string { return string(d.take(int(d.u8()))) }

// count reads a length byte and refuses more than limit.
func (d *decoder) count(limit int) int {
	n := int(d.u8())
	if n > limit {
		d.bad = true
		return 0
	}
	return n
}

func (d *decoder) addr() netip.Addr {
	a, ok := netip.AddrFromSlice(d.take(int(d.u8())))
	if !ok {
		d.bad = true
	}
	return a
}

// version reads the first field of a message.
func (d *decoder) version() error {
	v := d.u16()
	if d.bad {
		return ErrMalformed
	}
	if v != Version {
		return fmt.Errorf("%w: %d", ErrVersion, v)
	}
	return nil
}

// end says whether every field was there and nothing is left over.
func (d *decoder) end(what string) error {
	if d.bad || len(d.rest) != 0 {
		return fmt.Errorf("%w: %s", ErrMalformed, what)
	}
	return nil
}

// plainAddr reports whether an address has exactly one encoding: no zone, and
// IPv4 as IPv4.
func plainAddr(a netip.Addr) bool { return a.IsValid() && a.Zone() == "" && !a.Is4In6() }

// plainText reports whether a string may stand in a table or a log line.
func plainText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r < 0x20 || (r >= 0x7f && r < 0xa0) {
			return false
		}
	}
	return true
}
