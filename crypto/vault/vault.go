// Package vault seals the secrets that the registry replicates: the CA key,
// the gossip key, back-end secrets. They are boxes under a data key, and the
// data key is wrapped to each voter and to the offline recovery key, so a node
// that leaves is shut out by a new data key and new wraps.
//
// The package owns data keys, wraps, boxes and the recovery key's text. It does
// not own which nodes get a wrap, where seeds are stored, or any traffic key
// (those are never sealed, because they are never stored: I1).
//
// A wrap is not signed: whoever may write to the registry could wrap a key of
// its own making. Only arbiters write there, and they are trusted.
package vault

import (
	"encoding/binary"
	"errors"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Why a secret stayed closed. ErrSealed says nothing more on purpose: wrong
// key, wrong name and damage look alike.
var (
	ErrSealed      = errors.New("vault: does not open (other key, other name, or damaged)")
	ErrRecipient   = errors.New("vault: malformed recipient key")
	ErrRecoveryKey = errors.New("vault: malformed recovery key")
	ErrTooLarge    = errors.New("vault: name or secret too large")
	ErrGeneration  = errors.New("vault: generation must be 1 or more")
)

// boundTo is the text that ties a box or wrap to its place: each part carries
// its length, so no two places give the same bytes.
func boundTo(label string, cluster identity.ClusterID, generation uint64, name string) []byte {
	out := append([]byte{byte(len(label))}, label...)
	out = append(out, cluster[:]...)
	out = binary.BigEndian.AppendUint64(out, generation)
	out = binary.BigEndian.AppendUint16(out, uint16(len(name)))
	return append(out, name...)
}
