package dataplane

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// sumBlocks adds the 32-bit words of n bytes at p; n is a positive multiple
// of 64. It needs AVX2.
//
//go:noescape
func sumBlocks(p *byte, n int) uint64

// vectorMin is the length from which the vector unit pays.
const vectorMin = 192

// sumVector adds as much of b as the vector unit takes and returns the rest.
func sumVector(b []byte) (acc uint64, rest []byte) {
	n := len(b) &^ 63
	if n < vectorMin || !cpu.X86.HasAVX2 {
		return 0, b
	}
	return sumBlocks(unsafe.SliceData(b), n), b[n:]
}
