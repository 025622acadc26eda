package pki

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// JoinExporterLabel and ExporterSize say which keying material of the TLS
// connection a join proof is bound to (RFC 8446 7.5, ExportKeyingMaterial).
const (
	JoinExporterLabel = "EXPORTER-mesh-join"
	ExporterSize      = 32
)

// VerifyKeySize and ProofSize are the lengths of what a token derives.
const (
	VerifyKeySize = sha256.Size
	ProofSize     = sha256.Size
)

const (
	tokenVersion = "mct1"
	tokenIDBytes = 5  // 8 characters
	secretBytes  = 20 // 32 characters
)

// Token lets a new host join: it pins the CA by its hash, so the host knows
// whom to trust, and holds a secret that the host proves and never sends. How
// often and until when it counts is the registry's business.
type Token struct {
	CAHash [32]byte
	ID     string             // 8 base32 characters; the registry's name for the token
	secret *[secretBytes]byte // a pointer, so that fmt prints none from inside another struct
}

// NewToken makes a token and the key that the registry stores to check proofs.
//
// The check is symmetric: whoever reads verifyKey (each voter, a registry
// snapshot) could forge a join with that token while it lives. That grants
// nothing new, because voters are trusted for admission and any arbiter can
// commit a node; the secret itself does not follow from verifyKey.
func NewToken(random io.Reader, caHash [32]byte) (t Token, verifyKey []byte, err error) {
	var id [tokenIDBytes]byte
	t = Token{CAHash: caHash, secret: new([secretBytes]byte)}
	for _, part := range [][]byte{id[:], t.secret[:]} {
		if _, err := io.ReadFull(random, part); err != nil {
			return Token{}, nil, fmt.Errorf("pki: new token: %w", err)
		}
	}
	t.ID = base32Lower.EncodeToString(id[:])
	return t, t.verifyKey(), nil
}

// ParseToken reads the one canonical text of a token, else ErrToken. Errors
// never repeat the text, which is a secret.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 4 || parts[0] != tokenVersion {
		return Token{}, fmt.Errorf("%w: want %s.<CA hash>.<id>.<secret>", ErrToken, tokenVersion)
	}
	t := Token{secret: new([secretBytes]byte)}
	if !decodeExactly(t.CAHash[:], parts[1]) {
		return Token{}, fmt.Errorf("%w: CA hash is damaged", ErrToken)
	}
	if !decodeExactly(make([]byte, tokenIDBytes), parts[2]) {
		return Token{}, fmt.Errorf("%w: id is damaged", ErrToken)
	}
	if !decodeExactly(t.secret[:], parts[3]) {
		return Token{}, fmt.Errorf("%w: secret is damaged", ErrToken)
	}
	t.ID = parts[2]
	return t, nil
}

// String returns the whole token, secret included, for the one who made it.
// Printing a Token by fmt gives Format's text instead.
func (t Token) String() string {
	return t.public() + "." + base32Lower.EncodeToString(t.secret[:])
}

// Format keeps the secret out of logs and errors whatever the verb.
func (t Token) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, t.public()+".(redacted)") }

func (t Token) public() string { return tokenVersion + "." + FormatHash(t.CAHash) + "." + t.ID }

// Proof shows possession of the secret on this one TLS connection, for this
// one certificate request.
func (t Token) Proof(exporter, csrDER []byte) []byte { return proof(t.verifyKey(), exporter, csrDER) }

// CheckProof reports whether proof was made with the token of verifyKey, on the
// connection of exporter, for csrDER.
func CheckProof(verifyKey, exporter, csrDER, given []byte) bool {
	// An empty key would be known to everybody.
	if len(verifyKey) != VerifyKeySize || len(exporter) != ExporterSize {
		return false
	}
	return hmac.Equal(proof(verifyKey, exporter, csrDER), given)
}

func (t Token) verifyKey() []byte {
	key, err := hkdf.Key(sha256.New, t.secret[:], t.CAHash[:], "mct1 verify "+t.ID, VerifyKeySize)
	if err != nil {
		panic("pki: internal error: " + err.Error())
	}
	return key
}

func proof(verifyKey, exporter, csrDER []byte) []byte {
	mac := hmac.New(sha256.New, verifyKey)
	mac.Write([]byte("mct1 proof"))
	for _, part := range [][]byte{exporter, csrDER} {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		mac.Write(part)
	}
	return mac.Sum(nil)
}
