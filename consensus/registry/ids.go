package registry

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Compare orders ids as their text is.
func (id SessionID) Compare(o SessionID) int { return bytes.Compare(id[:], o[:]) }

// String returns 32 hexadecimal digits.
func (id SessionID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 8 digits, for tables and logs.
func (id SessionID) Short() string { return id.String()[:8] }

// MarshalText makes a SessionID a JSON string and map key.
func (id SessionID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the 32 digits of String.
func (id *SessionID) UnmarshalText(text []byte) error { return unmarshalHex(id[:], text) }

// Compare orders ids as their text is.
func (id CommandID) Compare(o CommandID) int { return bytes.Compare(id[:], o[:]) }

// String returns 32 hexadecimal digits.
func (id CommandID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes a CommandID a JSON string.
func (id CommandID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the 32 digits of String.
func (id *CommandID) UnmarshalText(text []byte) error { return unmarshalHex(id[:], text) }

// Compare orders ids as their text is.
func (id RequestID) Compare(o RequestID) int { return bytes.Compare(id[:], o[:]) }

// String returns 32 hexadecimal digits.
func (id RequestID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes a RequestID a JSON string and map key.
func (id RequestID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the 32 digits of String.
func (id *RequestID) UnmarshalText(text []byte) error { return unmarshalHex(id[:], text) }

// Compare orders ids as their text is.
func (id DeviceID) Compare(o DeviceID) int { return bytes.Compare(id[:], o[:]) }

// String returns 32 hexadecimal digits.
func (id DeviceID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first 8 digits, for tables and logs.
func (id DeviceID) Short() string { return id.String()[:8] }

// IsZero reports whether there is none.
func (id DeviceID) IsZero() bool { return id == DeviceID{} }

// MarshalText makes a DeviceID a JSON string.
func (id DeviceID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the 32 digits of String.
func (id *DeviceID) UnmarshalText(text []byte) error { return unmarshalHex(id[:], text) }

// Compare orders ids as their text is.
func (id CertificateID) Compare(o CertificateID) int { return bytes.Compare(id[:], o[:]) }

// String returns 64 hexadecimal digits.
func (id CertificateID) String() string { return hex.EncodeToString(id[:]) }

// MarshalText makes a CertificateID a JSON string and map key.
func (id CertificateID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText reads the 64 digits of String.
func (id *CertificateID) UnmarshalText(text []byte) error { return unmarshalHex(id[:], text) }

func unmarshalHex(dst, text []byte) error {
	if hex.DecodedLen(len(text)) != len(dst) || len(text)%2 != 0 {
		return fmt.Errorf("%w: %d characters, want %d", identity.ErrMalformed, len(text), hex.EncodedLen(len(dst)))
	}
	if _, err := hex.Decode(dst, text); err != nil {
		return fmt.Errorf("%w: %w", identity.ErrMalformed, err)
	}
	if hex.EncodeToString(dst) != string(text) {
		return fmt.Errorf("%w: capitals", identity.ErrMalformed) // one id, one text
	}
	return nil
}

func compareNodes(a, b identity.NodeID) int { return bytes.Compare(a[:], b[:]) }
