package mka

import (
	"crypto/sha512"
	"encoding/binary"
)

// transcript is what both ends know before an Accept exists: length-prefixed
// H(grant) and the prekey, and for a rekey the T and number it follows. With
// the Accept behind it, its hash is T.
type transcript []byte

const (
	sliceLabel  = "mka/1 slice"
	rekeyLabel  = "mka/1 rekey"
	acceptLabel = "mka/1 accept" // context of sig_S
)

func hashGrant(sg SignedGrant) [hashSize]byte {
	body, _ := sg.split()
	return sha512.Sum384(body)
}

func sliceTranscript(grant [hashSize]byte, sp SignedPrekey) transcript {
	t := appendPrefixed(nil, []byte(sliceLabel))
	t = appendPrefixed(t, grant[:])
	return appendPrefixed(t, sp)
}

func rekeyTranscript(grant [hashSize]byte, base link, number uint32, sp SignedPrekey) transcript {
	t := appendPrefixed(nil, []byte(rekeyLabel))
	t = appendPrefixed(t, base.t[:])
	t = appendPrefixed(t, binary.BigEndian.AppendUint32(nil, number))
	t = appendPrefixed(t, grant[:])
	return appendPrefixed(t, sp)
}

// context is bound into the knock key and the KEM, which come before the
// Accept is whole.
func (t transcript) context() [hashSize]byte { return sha512.Sum384(t) }

// with hashes the transcript and an Accept: the whole gives T, the part up to
// the signature what sig_S signs.
func (t transcript) with(accept []byte) [hashSize]byte {
	h := sha512.New384()
	h.Write(t)
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(accept))))
	h.Write(accept)
	return [hashSize]byte(h.Sum(nil))
}
