package mka

import (
	"errors"
	"fmt"
)

// The reasons for which a message or a step is refused. A refusal leaves the
// machine as it was, except that a prekey is spent by the first Accept that
// passes the knock and the signature.
var (
	// ErrMalformed says that bytes are not the message they should be: wrong
	// length, a count beyond its limit, an encoding that is not canonical.
	ErrMalformed = errors.New("mka: malformed message")
	// ErrVersion says that a message or a grant is of a version not spoken or
	// not offered here.
	ErrVersion = errors.New("mka: unknown or unoffered version")
	// ErrSignature says that a signature is not of the key it should be.
	ErrSignature = errors.New("mka: bad signature")
	// ErrKnock says that an Accept does not come from a holder of the share.
	ErrKnock = errors.New("mka: bad knock")
	// ErrPrekey says that a prekey is spent, expired or granted elsewhere.
	ErrPrekey = errors.New("mka: prekey is spent or expired")
	// ErrFence says that a grant is older than the arbiter already heard.
	ErrFence = errors.New("mka: grant below the fence")
	// ErrMismatch says that two messages do not belong together: another
	// agent, boot, SPI, session key or hello than the grant names.
	ErrMismatch = errors.New("mka: messages do not belong together")
	// ErrSuite says that a suite was not offered or is not built.
	ErrSuite = errors.New("mka: unoffered or unsupported suite")
	// ErrConfirm says that a Confirm does not prove the agreed keys.
	ErrConfirm = errors.New("mka: bad confirm")
	// ErrSPI says that an SPI is reserved or repeats the one it replaces.
	ErrSPI = errors.New("mka: reserved or repeated SPI")
	// ErrEncapsulation says that a KEM key or ciphertext is not valid.
	ErrEncapsulation = errors.New("mka: invalid encapsulation")
	// ErrOrder says that a step does not follow from the machine's state: a
	// rekey before the confirm, or a part of a rekey that is over.
	ErrOrder = errors.New("mka: step out of order")
)

// errOver is for a machine that was wiped.
var errOver = fmt.Errorf("%w: this slice is over", ErrOrder)
