package mka

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Suite names the cipher of a slice's SA pair.
type Suite = esp.Suite

// ExporterLabel and ExporterSize are what both ends of the TLS connection ask
// its exporter for, with no context; proofs of possession are bound to it.
const (
	ExporterLabel = "EXPORTER-mka1-auth"
	ExporterSize  = 32
)

const helloContext = "mka/1 hello"

// Hello is M1: what the client offers and asks for. Its hash stands in every
// grant, so that an offer stripped on the way is noticed by the client.
type Hello struct {
	Versions   []uint16           // spoken, best first
	Suites     []esp.Suite        // wanted, best first
	Request    [16]byte           // the same again finds the same session
	Nonce      [32]byte           // makes every hello's hash its own
	SessionKey identity.PublicKey // pk_S, fresh for this session
	Bandwidth  uint64             // wanted, bit/s; 0: the group's default
	Peer       string             // node or client to reach itself; empty: none
}

// Validate reports, as ErrMalformed, why a Hello cannot be sent.
func (h Hello) Validate() error {
	switch {
	case len(h.Versions) == 0 || len(h.Versions) > MaxVersions || repeats(h.Versions):
		return fmt.Errorf("%w: hello: 1..%d distinct versions", ErrMalformed, MaxVersions)
	case len(h.Suites) == 0 || len(h.Suites) > MaxSuites || repeats(h.Suites):
		return fmt.Errorf("%w: hello: 1..%d distinct suites", ErrMalformed, MaxSuites)
	case len(h.Peer) > MaxPeer || !plainText(h.Peer):
		return fmt.Errorf("%w: hello: peer of at most %d printable bytes", ErrMalformed, MaxPeer)
	}
	return nil
}

// Marshal encodes a Hello. It panics if Validate would fail.
func (h Hello) Marshal() []byte {
	if err := h.Validate(); err != nil {
		panic(err.Error())
	}
	var e encoder
	e.u16(Version)
	e.u8(uint8(len(h.Versions)))
	for _, v := range h.Versions {
		e.u16(v)
	}
	e.u8(uint8(len(h.Suites)))
	for _, s := range h.Suites {
		e.u16(uint16(s))
	}
	e.raw(h.Request[:])
	e.raw(h.Nonce[:])
	e.raw(h.SessionKey[:])
	e.u64(h.Bandwidth)
	e.text(h.Peer)
	return e.out
}

// ParseHello decodes what Marshal wrote, and nothing else. Errors: ErrMalformed,
// ErrVersion.
func ParseHello(b []byte) (Hello, error) {
	d := decoder{rest: b}
	if err := d.version(); err != nil {
		return Hello{}, err
	}
	var h Hello
	for range d.count(MaxVersions) {
		h.Versions = append(h.Versions, d.u16())
	}
	for range d.count(MaxSuites) {
		h.Suites = append(h.Suites, esp.Suite(d.u16()))
	}
	d.into(h.Request[:])
	d.into(h.Nonce[:])
	d.into(h.SessionKey[:])
	h.Bandwidth = d.u64()
	h.Peer = d.text()
	if err := d.end("hello"); err != nil {
		return Hello{}, err
	}
	if err := h.Validate(); err != nil {
		return Hello{}, err
	}
	return h, nil
}

// HashHello is the hash(M1) of a Grant.
func HashHello(hello []byte) [32]byte { return sha256.Sum256(hello) }

// SignHello proves that the sender of a hello on this TLS connection holds its
// session key. exporter is ExporterSize bytes of the connection's exporter.
func SignHello(sessionKey identity.Key, exporter, hello []byte) []byte {
	return sessionKey.Sign(helloContext, possession(exporter, hello))
}

// VerifyHello checks the proof of SignHello.
func VerifyHello(pub identity.PublicKey, exporter, hello, sig []byte) bool {
	return len(exporter) == ExporterSize &&
		pub.Verify(helloContext, possession(exporter, hello), sig)
}

func possession(exporter, hello []byte) []byte {
	return appendPrefixed(appendPrefixed(nil, exporter), hello)
}

// appendPrefixed appends a 4-byte length and b: no two lists of fields give
// the same bytes.
func appendPrefixed(dst, b []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(b)))
	return append(dst, b...)
}

func repeats[T comparable](list []T) bool {
	for i, v := range list {
		if slices.Contains(list[:i], v) {
			return true
		}
	}
	return false
}
