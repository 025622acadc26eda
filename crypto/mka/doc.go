// Package mka is MKA/1, the key agreement of one slice among three parties:
// the client, the arbiter and one agent. The arbiter contributes a share and
// signs who takes part, the agent a single-use prekey, the client an
// encapsulation to it; client and agent end with the keys of one SA pair, and
// nobody else does.
//
// The package owns the messages (hello, prekey, grant, accept, confirm, rekey
// parts), their codecs, the key schedule and the two machines Agent and
// Client. It is pure: bytes in, bytes and keys out, with no clock, socket,
// lock or log. It does not own sending, repeating or timing out, the pool of
// prekeys, authentication of the person behind a client (node/auth), or what
// an SA does with its keys (crypto/esp). Its machines are not safe for
// concurrent use.
//
// Sizes, the key schedule and what each party learns are in DESIGN.md.
package mka
