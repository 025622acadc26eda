package identity

import (
	"errors"
	"strings"
	"testing"
)

// TestOneSpelling: an identifier is written one way only, so that two texts that differ
// are two identifiers.
func TestOneSpelling(t *testing.T) {
	var c ClusterID
	for i := range c {
		c[i] = 0xab
	}
	text := c.String()
	var back ClusterID
	if err := back.UnmarshalText([]byte(text)); err != nil || back != c {
		t.Fatalf("%q: %v, %v", text, back, err)
	}
	for _, other := range []string{strings.ToUpper(text), "A" + text[1:], text[1:], text + "00", "g" + text[1:]} {
		if err := back.UnmarshalText([]byte(other)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", other, err)
		}
	}
}
