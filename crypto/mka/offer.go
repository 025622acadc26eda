package mka

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// offer is a prekey that an agent waits to have accepted: number 0 is the
// slice's own agreement, higher ones are rekeys.
type offer struct {
	number     uint32
	secret     *PrekeySecret
	transcript transcript
	early      early
}

// answer remembers the Accept an offer ended with, to answer a repeat of it.
type answer struct {
	number, spiC uint32
	knock, mac   [hashSize]byte
	digest       [sha256.Size]byte
}

// confirm is what the Accept was answered with.
func (r *answer) confirm() []byte {
	if r.number == 0 {
		return marshalConfirm(r.spiC, r.mac)
	}
	return marshalRekeyConfirm(r.number, r.mac)
}

// forget clears what recognises the Accept, if there is one.
func (r *answer) forget() {
	if r != nil {
		clear(r.knock[:])
	}
}

// newOffer claims the prekey.
func newOffer(number uint32, secret *PrekeySecret, t transcript, share []byte) (*offer, error) {
	e, err := newEarly(share, t.context())
	if err != nil {
		return nil, err
	}
	if err := secret.claim(); err != nil {
		return nil, err
	}
	return &offer{number, secret, t, e}, nil
}

// accept checks in the order of cost: the knock, one HMAC, stops strangers;
// then sig_S; then the decapsulation, which burns the prekey.
func (o *offer) accept(m accept, session identity.PublicKey, suite esp.Suite) (outcome, error) {
	if !o.early.knows(m) {
		return outcome{}, ErrKnock
	}
	signed := o.transcript.with(m.signed())
	if !session.Verify(acceptLabel, signed[:], m.sig) {
		return outcome{}, fmt.Errorf("%w: accept", ErrSignature)
	}
	context := o.transcript.context()
	kem, err := o.secret.decapsulate(m.enc, context[:])
	if err != nil {
		return outcome{}, err
	}
	return o.early.finish(suite, kem, o.transcript.with(m.raw), o.number)
}

func (e early) knows(m accept) bool { return hmac.Equal(e.tag(m.knocked()), m.knock) }

// replay answers an Accept that comes after the offer's end: the same bytes
// get the same confirm, others find the prekey spent.
func (r *answer) replay(m accept) ([]byte, error) {
	if r == nil {
		return nil, ErrPrekey
	}
	if !(early{knock: r.knock[:]}).knows(m) {
		return nil, ErrKnock
	}
	if sha256.Sum256(m.raw) != r.digest {
		return nil, ErrPrekey
	}
	return r.confirm(), nil
}

// A rekey offer is the number of the agreement it follows, then the prekey.
const rekeyOfferSize = 4 + PrekeySize

func marshalRekeyOffer(base uint32, sp SignedPrekey) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, rekeyOfferSize), base)
	return append(b, sp...)
}

func parseRekeyOffer(b []byte) (base uint32, sp SignedPrekey, err error) {
	if len(b) != rekeyOfferSize {
		return 0, nil, fmt.Errorf("%w: rekey offer of %d bytes", ErrMalformed, len(b))
	}
	return binary.BigEndian.Uint32(b), SignedPrekey(b[4:]), nil
}
