package vault

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

const (
	recoveryPrefix   = "MCR1"
	recoveryAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ" // Crockford: no I, L, O, U
	groupLength      = 4
	groupCount       = (SeedSize + checksumSize) * 8 / 5 / groupLength
	checksumSize     = 3 // 35 bytes are exactly 56 characters
)

// RecoveryText is the recipient's seed for paper: MCR1 and 14 groups of four
// characters, the last of which carry a checksum. It is the key itself.
func (r Recipient) RecoveryText() string {
	text := recoveryEncoding().EncodeToString(append(r.Seed(), checksum(r.seed)...))
	groups := []string{recoveryPrefix}
	for ; len(text) > 0; text = text[groupLength:] {
		groups = append(groups, text[:groupLength])
	}
	return strings.Join(groups, "-")
}

// ParseRecoveryText reads exactly what RecoveryText wrote. An ErrRecoveryKey
// names the place of the mistake and repeats no part of the key but the one
// character that cannot stand there.
func ParseRecoveryText(text string) (Recipient, error) {
	groups := strings.Split(text, "-")
	if groups[0] != recoveryPrefix {
		return Recipient{}, fmt.Errorf("%w: must begin with %s-", ErrRecoveryKey, recoveryPrefix)
	}
	groups = groups[1:]
	if len(groups) != groupCount {
		return Recipient{}, fmt.Errorf("%w: %d groups after %s, want %d",
			ErrRecoveryKey, len(groups), recoveryPrefix, groupCount)
	}
	for i, group := range groups {
		if err := checkGroup(group); err != nil {
			return Recipient{}, fmt.Errorf("%w: group %d: %w", ErrRecoveryKey, i+1, err)
		}
	}
	raw, err := recoveryEncoding().DecodeString(strings.Join(groups, ""))
	if err != nil {
		return Recipient{}, fmt.Errorf("%w: %w", ErrRecoveryKey, err)
	}
	r, err := RecipientFromSeed(raw[:SeedSize])
	if err != nil {
		return Recipient{}, err
	}
	if string(checksum(r.seed)) != string(raw[SeedSize:]) {
		return Recipient{}, fmt.Errorf("%w: checksum is wrong, a character was mistyped", ErrRecoveryKey)
	}
	return r, nil
}

// checkGroup says which character is at fault, and what was likely meant.
func checkGroup(group string) error {
	for _, c := range group {
		switch {
		case strings.ContainsRune(recoveryAlphabet, c):
		case c >= 'a' && c <= 'z':
			return fmt.Errorf("%q is lower case, want capital letters", c)
		case c == 'O':
			return fmt.Errorf("%q never occurs, 0 (zero) is meant", c)
		case c == 'I' || c == 'L':
			return fmt.Errorf("%q never occurs, 1 (one) is meant", c)
		default:
			return fmt.Errorf("%q never occurs in a recovery key", c)
		}
	}
	if len(group) != groupLength {
		return fmt.Errorf("%d characters, want %d", len(group), groupLength)
	}
	return nil
}

// checksum catches typing mistakes, not forgery.
func checksum(seed *[SeedSize]byte) []byte {
	digest := sha256.Sum256(append([]byte("meshcrypt recovery key"), seed[:]...))
	return digest[:checksumSize]
}

func recoveryEncoding() *base32.Encoding {
	return base32.NewEncoding(recoveryAlphabet).WithPadding(base32.NoPadding)
}
