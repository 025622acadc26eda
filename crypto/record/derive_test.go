package record

import (
	"bytes"
	"errors"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/mka"
)

// derived are the keys out of an exporter of which no two bytes are alike, and what it gave.
func derived(t *testing.T) (client, server Key, material []byte) {
	t.Helper()
	client, server, err := Derive(func(label string, context []byte, length int) ([]byte, error) {
		if label != ExporterLabel || label == mka.ExporterLabel || context != nil {
			t.Errorf("asked for %q of %q", label, context)
		}
		for i := range length {
			material = append(material, byte(i))
		}
		return material, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return client, server, material
}

// TestDirectionsShareNothing: each has a key and an IV of its own, for both count from 0 (I2),
// so nothing comes back to its sender as the other end's word.
func TestDirectionsShareNothing(t *testing.T) {
	client, server, _ := derived(t)
	said := sealed(t, client, "a word")
	if got, err := read(server, said...); !errors.Is(err, ErrForged) {
		t.Errorf("the client's own word comes back to it: %q, %v", got, err)
	}
	if got, err := read(client, said...); err != nil || got != "a word" {
		t.Errorf("the server reads %q, %v", got, err)
	}
	a, b := *client.sealed, *server.sealed
	if a.iv == b.iv || a.oracleHash() == b.oracleHash() {
		t.Error("the directions have one IV, or one name in the nonce oracle")
	}
}

// TestMaterialIsCleared: what the keys were made of does not stay.
func TestMaterialIsCleared(t *testing.T) {
	_, _, material := derived(t)
	if len(material) != secretSize || !bytes.Equal(material, make([]byte, secretSize)) {
		t.Errorf("it stays: %x", material)
	}
}
