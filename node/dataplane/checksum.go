package dataplane

import (
	"encoding/binary"
	"math/bits"
)

// The Internet checksum (RFC 1071) is a one's complement sum, so its words may
// be added in any byte order as long as the result is stored in the same one.
// Everything here works on words as the host reads them.

// sum adds the 16-bit words of b to the one's complement sum acc. An odd last
// byte counts as if a zero byte followed, so only the last piece may be odd.
func sum(b []byte, acc uint64) uint64 {
	blocks, b := sumVector(b)
	return sumWords(b, add(acc, blocks))
}

// sumWords is sum in plain Go, eight words at a time in one chain of carries.
func sumWords(b []byte, acc uint64) uint64 {
	var carry uint64
	for len(b) >= 64 {
		w := b[:64]
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w), 0)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[8:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[16:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[24:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[32:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[40:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[48:]), carry)
		acc, carry = bits.Add64(acc, binary.NativeEndian.Uint64(w[56:]), carry)
		acc += carry
		b = b[64:]
	}
	return sumTail(b, acc)
}

// sumTail adds the last bytes of a sum, fewer than 64.
func sumTail(b []byte, acc uint64) uint64 {
	for len(b) >= 8 {
		acc = add(acc, binary.NativeEndian.Uint64(b))
		b = b[8:]
	}
	if len(b) >= 4 {
		acc = add(acc, uint64(binary.NativeEndian.Uint32(b)))
		b = b[4:]
	}
	if len(b) >= 2 {
		acc = add(acc, uint64(binary.NativeEndian.Uint16(b)))
		b = b[2:]
	}
	if len(b) == 1 {
		acc = add(acc, uint64(binary.NativeEndian.Uint16([]byte{b[0], 0})))
	}
	return acc
}

// add is one's complement addition.
func add(a, b uint64) uint64 {
	s, carry := bits.Add64(a, b, 0)
	return s + carry
}

// fold brings a sum down to 16 bits.
func fold(acc uint64) uint16 {
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>32 + acc&0xffffffff
	acc = acc>>16 + acc&0xffff
	acc = acc>>16 + acc&0xffff
	return uint16(acc)
}

// word is the value as it would be read from the wire by the host.
func word(v uint16) uint64 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return uint64(binary.NativeEndian.Uint16(b[:]))
}

// store writes a folded sum to a checksum field.
func store(b []byte, v uint16) { binary.NativeEndian.PutUint16(b, v) }
