package esp

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// Suite names an AEAD and how ESP uses it. Numbers are MKA/1's. All three have
// an ICV of 16 bytes and a nonce of salt and IV, so a frame of one looks like a
// frame of another.
type Suite uint16

// The suites of MKA/1.
const (
	AES256GCM        Suite = 1 // RFC 4106
	ChaCha20Poly1305 Suite = 2 // RFC 7634
	AES128GCM        Suite = 3 // RFC 4106
)

// suite is what differs between them.
type suite struct {
	name    string
	keySize int
	aead    func(key []byte) (cipher.AEAD, error)
}

var suites = map[Suite]suite{
	AES256GCM:        {"AES-256-GCM", 32, newGCM},
	ChaCha20Poly1305: {"ChaCha20-Poly1305", chacha20poly1305.KeySize, chacha20poly1305.New},
	AES128GCM:        {"AES-128-GCM", 16, newGCM},
}

// Suites lists what is built, by number.
func Suites() []Suite { return slices.Sorted(maps.Keys(suites)) }

// ParseSuite finds a suite by its name, such as aes-256-gcm, in any case.
func ParseSuite(name string) (Suite, error) {
	var names []string
	for _, s := range Suites() {
		if strings.EqualFold(s.String(), name) {
			return s, nil
		}
		names = append(names, strings.ToLower(s.String()))
	}
	return 0, fmt.Errorf("%w: %q; there are %s", ErrSuite, name, strings.Join(names, ", "))
}

// Built reports whether this build can use the suite.
func (s Suite) Built() bool { return suites[s].aead != nil }

// MaterialSize returns the length of the suite's key material, key and salt,
// or 0 for a suite that is not available.
func (s Suite) MaterialSize() int {
	if !s.Built() {
		return 0
	}
	return suites[s].keySize + saltSize
}

// String returns the suite's name as standards write it.
func (s Suite) String() string {
	if !s.Built() {
		return fmt.Sprintf("suite %d", uint16(s))
	}
	return suites[s].name
}

// newGCM takes a key of any AES size.
func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}
