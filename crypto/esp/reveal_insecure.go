//go:build meshcrypt_insecure

package esp

import "bytes"

// Reveal returns the key material, so that a test can give it to a packet
// analyser. It exists only in builds with the tag meshcrypt_insecure, which
// are never released.
func (k Key) Reveal() []byte { return bytes.Clone(k.secret().material) }
