package mka

import (
	"encoding/binary"
	"fmt"
)

// The 12-byte header of a datagram that is not ESP: marker 4 (zero), type 1,
// hops 1, zero 2, SPI 4. Hops is zero here: gateways forward these by SPI and
// change nothing.
const (
	headerSize  = 12
	typeAccept  = 2
	typeConfirm = 3
)

// An Accept is a datagram of fixed fields; the offsets are where each begins.
const (
	nonceSize         = 12
	encapsulationSize = 1120
	knockSize         = 16

	acceptVersionAt = headerSize
	acceptSPIAt     = acceptVersionAt + 2
	acceptNonceAt   = acceptSPIAt + 4
	acceptEncAt     = acceptNonceAt + nonceSize
	acceptSigAt     = acceptEncAt + encapsulationSize
	acceptKnockAt   = acceptSigAt + signatureSize

	// AcceptSize is the length of every Accept.
	AcceptSize = acceptKnockAt + knockSize
	// ConfirmSize is the length of every Confirm.
	ConfirmSize = headerSize + 2 + hashSize
)

// accept is a parsed Accept; enc, sig and knock point into raw.
type accept struct {
	raw        []byte
	spiA, spiC uint32
	enc        []byte
	sig        []byte
	knock      []byte
}

func appendHeader(dst []byte, kind byte, spi uint32) []byte {
	dst = append(dst, 0, 0, 0, 0, kind, 0, 0, 0)
	return binary.BigEndian.AppendUint32(dst, spi)
}

// parseHeader returns the SPI of a datagram of exactly this type and length.
func parseHeader(b []byte, kind byte, size int) (spi uint32, err error) {
	if len(b) != size {
		return 0, fmt.Errorf("%w: %d bytes, want %d", ErrMalformed, len(b), size)
	}
	var want [headerSize]byte
	spi = binary.BigEndian.Uint32(b[8:])
	if [headerSize]byte(b) != [headerSize]byte(appendHeader(want[:0], kind, spi)) {
		return 0, fmt.Errorf("%w: header", ErrMalformed)
	}
	if v := binary.BigEndian.Uint16(b[headerSize:]); v != Version {
		return 0, fmt.Errorf("%w: %d", ErrVersion, v)
	}
	return spi, nil
}

// appendAccept writes an Accept up to its signature.
func appendAccept(dst []byte, spiA, spiC uint32, nonce [nonceSize]byte, enc []byte) []byte {
	dst = appendHeader(dst, typeAccept, spiA)
	dst = binary.BigEndian.AppendUint16(dst, Version)
	dst = binary.BigEndian.AppendUint32(dst, spiC)
	dst = append(dst, nonce[:]...)
	return append(dst, enc...)
}

func parseAccept(b []byte) (accept, error) {
	spiA, err := parseHeader(b, typeAccept, AcceptSize)
	if err != nil {
		return accept{}, fmt.Errorf("accept: %w", err)
	}
	m := accept{
		raw:   b,
		spiA:  spiA,
		spiC:  binary.BigEndian.Uint32(b[acceptSPIAt:]),
		enc:   b[acceptEncAt:acceptSigAt],
		sig:   b[acceptSigAt:acceptKnockAt],
		knock: b[acceptKnockAt:],
	}
	if m.spiC < MinSPI {
		return accept{}, fmt.Errorf("accept: %w: %d", ErrSPI, m.spiC)
	}
	return m, nil
}

// knocked and signed are the bytes that the knock and sig_S cover.
func (m accept) knocked() []byte { return m.raw[:acceptKnockAt] }
func (m accept) signed() []byte  { return m.raw[:acceptSigAt] }

func marshalConfirm(spiC uint32, mac [hashSize]byte) []byte {
	b := appendHeader(make([]byte, 0, ConfirmSize), typeConfirm, spiC)
	b = binary.BigEndian.AppendUint16(b, Version)
	return append(b, mac[:]...)
}

func parseConfirm(b []byte) (spiC uint32, mac []byte, err error) {
	spiC, err = parseHeader(b, typeConfirm, ConfirmSize)
	if err != nil {
		return 0, nil, fmt.Errorf("confirm: %w", err)
	}
	return spiC, b[headerSize+2:], nil
}

// rekeyConfirmSize is the body of a rekey's confirm: version 2, number 4, MAC.
const rekeyConfirmSize = 2 + 4 + hashSize

func marshalRekeyConfirm(number uint32, mac [hashSize]byte) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, rekeyConfirmSize), Version)
	b = binary.BigEndian.AppendUint32(b, number)
	return append(b, mac[:]...)
}

func parseRekeyConfirm(b []byte) (number uint32, mac []byte, err error) {
	d := decoder{rest: b}
	if err := d.version(); err != nil {
		return 0, nil, fmt.Errorf("rekey confirm: %w", err)
	}
	number = d.u32()
	mac = d.take(hashSize)
	return number, mac, d.end("rekey confirm")
}
