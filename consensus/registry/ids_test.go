package registry

import (
	"encoding"
	"errors"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// identifier is what all ids can do.
type identifier interface {
	encoding.TextUnmarshaler
	encoding.TextMarshaler
}

// FuzzIdentifiers: an id has one text, so two texts in a file are two ids.
func FuzzIdentifiers(f *testing.F) {
	for _, text := range []string{"", "0", strings.Repeat("0f", 16), strings.Repeat("0F", 16), strings.Repeat("a1", 32), strings.Repeat("g", 32)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, id := range []identifier{new(SessionID), new(CommandID), new(RequestID), new(CertificateID)} {
			if err := id.UnmarshalText([]byte(text)); err != nil {
				if !errors.Is(err, identity.ErrMalformed) {
					t.Errorf("unnamed error %v", err)
				}
				continue
			}
			if again, err := id.MarshalText(); err != nil || string(again) != text {
				t.Errorf("%T: %q came back as %q, %v", id, text, again, err)
			}
		}
	})
}
