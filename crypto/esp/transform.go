package esp

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

const (
	saltSize  = 4
	nonceSize = saltSize + ivSize
)

// transform is the AEAD of one key and the nonces under construction. It knows
// where header, IV and ICV stand in a frame, and nothing of counters. Safe for
// concurrent use.
type transform struct {
	warm  atomic.Pointer[warm] // nil until the key has seen some use
	uses  atomic.Uint32        // of a cold key
	salt  [saltSize]byte
	key   [maxKeySize]byte
	size  uint8 // of the key
	suite Suite
}

// warm is a key at work. A cipher is its key expanded to 30 times the size, too much for
// the SAs of ten thousand clients at rest: these make one for each packet, at twice what
// a small packet costs.
type warm struct {
	aead  cipher.AEAD
	slots [scratchSlots]scratch
}

// scratch holds one worker's nonce while the AEAD reads it. Passed through an
// interface, a nonce on the stack would escape and cost an allocation for each
// packet. One cache line each, so that workers do not slow each other down.
type scratch struct {
	busy  atomic.Bool
	nonce [nonceSize]byte
	_     [64 - 4 - nonceSize]byte
}

// begin gives a new transform its key.
func (t *transform) begin(k Key) error {
	secret := k.secret()
	if secret == nil {
		return fmt.Errorf("%w: empty key", ErrSuite)
	}
	return t.take(secret.suite, secret.material)
}

// take takes material, key || salt, that the suite's AEAD can be made of.
func (t *transform) take(s Suite, material []byte) error {
	key, salt := material[:len(material)-saltSize], material[len(material)-saltSize:]
	if _, err := suites[s].aead(key); err != nil {
		return fmt.Errorf("%w: %w", ErrSuite, err)
	}
	t.suite, t.size = s, uint8(len(key))
	copy(t.key[:], key)
	copy(t.salt[:], salt)
	return nil
}

// cipher makes the key's AEAD.
func (t *transform) cipher() cipher.AEAD {
	made, err := suites[t.suite].aead(t.key[:t.size])
	if err != nil {
		panic("esp: " + err.Error()) // take made one of the same key
	}
	return made
}

// seal seals what stands between IV and ICV, in place.
func (t *transform) seal(frame []byte) {
	aead, s := t.cipherFor(frame)
	aead.Seal(frame[PayloadOffset:PayloadOffset], s.nonce[:], frame[PayloadOffset:len(frame)-icvSize], frame[:headerSize])
	s.busy.Store(false)
}

// open opens what stands between IV and ICV, in place, and returns it. A frame
// that is not authentic is overwritten.
func (t *transform) open(frame []byte) ([]byte, error) {
	aead, s := t.cipherFor(frame)
	plain, err := aead.Open(frame[PayloadOffset:PayloadOffset], s.nonce[:], frame[PayloadOffset:], frame[:headerSize])
	s.busy.Store(false)
	if err != nil {
		return nil, ErrAuth
	}
	return plain, nil
}

// cipherFor returns the AEAD and a slot with the frame's nonce.
func (t *transform) cipherFor(frame []byte) (cipher.AEAD, *scratch) {
	iv := frame[headerSize:PayloadOffset]
	w := t.warm.Load()
	if w == nil {
		if t.uses.Add(1) < warmAfter {
			return t.cipher(), t.fill(new(scratch), iv)
		}
		w = t.heat()
	}
	return w.aead, t.fill(w.borrow(iv), iv)
}

// heat makes the cipher that stays.
func (t *transform) heat() *warm {
	t.warm.CompareAndSwap(nil, &warm{aead: t.cipher()})
	return t.warm.Load()
}

// borrow returns a free scratch; the caller gives it back by clearing busy. Workers hold
// runs of consecutive counters, so counter blocks spread them over the slots.
func (w *warm) borrow(iv []byte) *scratch {
	first := binary.BigEndian.Uint64(iv) >> 6
	for i := range uint64(scratchSlots) {
		s := &w.slots[(first+i)%scratchSlots]
		if s.busy.CompareAndSwap(false, true) {
			return s
		}
	}
	return new(scratch)
}

// fill puts a frame's nonce into a scratch.
func (t *transform) fill(s *scratch, iv []byte) *scratch {
	copy(s.nonce[:saltSize], t.salt[:])
	copy(s.nonce[saltSize:], iv)
	return s
}
