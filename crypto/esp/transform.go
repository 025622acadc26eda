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
	aead  cipher.AEAD
	salt  [saltSize]byte
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

func newTransform(k Key) (*transform, error) {
	secret := k.secret()
	if secret == nil {
		return nil, fmt.Errorf("%w: empty key", ErrSuite)
	}
	return makeTransform(suites[secret.suite].aead, secret.material)
}

// makeTransform builds the AEAD of material, key || salt.
func makeTransform(aead func(key []byte) (cipher.AEAD, error), material []byte) (*transform, error) {
	key, salt := material[:len(material)-saltSize], material[len(material)-saltSize:]
	made, err := aead(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSuite, err)
	}
	t := &transform{aead: made}
	copy(t.salt[:], salt)
	return t, nil
}

// seal seals what stands between IV and ICV, in place.
func (t *transform) seal(frame []byte) {
	s := t.borrow(frame)
	t.aead.Seal(frame[PayloadOffset:PayloadOffset], s.nonce[:], frame[PayloadOffset:len(frame)-icvSize], frame[:headerSize])
	s.busy.Store(false)
}

// open opens what stands between IV and ICV, in place, and returns it. A frame
// that is not authentic is overwritten.
func (t *transform) open(frame []byte) ([]byte, error) {
	s := t.borrow(frame)
	plain, err := t.aead.Open(frame[PayloadOffset:PayloadOffset], s.nonce[:], frame[PayloadOffset:], frame[:headerSize])
	s.busy.Store(false)
	if err != nil {
		return nil, ErrAuth
	}
	return plain, nil
}

// borrow returns a scratch that holds the frame's nonce; the caller gives it
// back by clearing busy. Workers hold runs of consecutive counters, so counter
// blocks spread them over the slots.
func (t *transform) borrow(frame []byte) *scratch {
	iv := frame[headerSize:PayloadOffset]
	first := binary.BigEndian.Uint64(iv) >> 6
	for i := range uint64(scratchSlots) {
		s := &t.slots[(first+i)%scratchSlots]
		if s.busy.CompareAndSwap(false, true) {
			return t.fill(s, iv)
		}
	}
	return t.fill(new(scratch), iv)
}

func (t *transform) fill(s *scratch, iv []byte) *scratch {
	copy(s.nonce[:saltSize], t.salt[:])
	copy(s.nonce[saltSize:], iv)
	return s
}
