package probe

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// TypeClaim is a node's word on whose an inside address is.
const TypeClaim = 8

// ClaimLen is the length of a Claim, in bytes: header 12, address 16, incarnation 8,
// epoch 8, kind 1, right 1, zero 6, MAC 16.
const ClaimLen = headerLen + 16 + 8 + 8 + 8 + macLen

// ClaimKind is what a claim is for.
type ClaimKind byte

// The kinds.
const (
	ClaimAsks  ClaimKind = 1 // does anybody hold it
	ClaimHolds ClaimKind = 2 // the sender does
)

// Claim says by what right a node holds an inside address, or would.
type Claim struct {
	From    identity.Index
	Address netip.Addr
	Kind    ClaimKind
	Right
}

// Right is that: which of two holders keeps an address. Epochs are of the part that
// the address belongs to, and rise with each decision of an arbiter about it.
type Right struct {
	Incarnation, Epoch uint64
	Given              bool // by that decision; else taken over, as its second
}

// Below reports whether a right is less than another.
func (r Right) Below(other Right) bool {
	switch {
	case r.Incarnation != other.Incarnation:
		return r.Incarnation < other.Incarnation
	case r.Epoch != other.Epoch:
		return r.Epoch < other.Epoch
	}
	return !r.Given && other.Given
}

// Older reports whether a right is of an earlier decision than another.
func (r Right) Older(other Right) bool {
	r.Given, other.Given = false, false
	return r.Below(other)
}

// Marshal writes the datagram, authenticated under the mesh's probe key.
func (c Claim) Marshal(key []byte) []byte {
	b := c.body()
	return append(b, mac(key, b)...)
}

// body is the datagram but for its MAC.
func (c Claim) body() []byte {
	b := make([]byte, ClaimLen-macLen, ClaimLen)
	b[4], b[5] = TypeClaim, 1
	binary.BigEndian.PutUint32(b[8:], uint32(c.From)<<20)
	at := b[headerLen:]
	address := c.Address.As16()
	copy(at, address[:])
	binary.BigEndian.PutUint64(at[16:], c.Incarnation)
	binary.BigEndian.PutUint64(at[24:], c.Epoch)
	at[32] = byte(c.Kind)
	if c.Given {
		at[33] = 1
	}
	return b
}

// ParseClaim reads and authenticates a claim.
func ParseClaim(b, key []byte) (c Claim, ok bool) {
	if len(b) != ClaimLen || !hmac.Equal(b[ClaimLen-macLen:], mac(key, b[:ClaimLen-macLen])) {
		return c, false
	}
	at := b[headerLen:]
	c = Claim{
		From: identity.Index(binary.BigEndian.Uint32(b[8:]) >> 20), Address: netip.AddrFrom16([16]byte(at)).Unmap(), Kind: ClaimKind(at[32]),
		Right: Right{binary.BigEndian.Uint64(at[16:]), binary.BigEndian.Uint64(at[24:]), at[33] == 1},
	}
	// One datagram, one meaning: spare bytes are zero.
	return c, (c.Kind == ClaimAsks || c.Kind == ClaimHolds) && bytes.Equal(c.body(), b[:ClaimLen-macLen])
}
