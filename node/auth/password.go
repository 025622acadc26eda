package auth

import (
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/argon2"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

const passwordContext = "mka1 login password"

// Cost is the price of one guess at a password (argon2id, RFC 9106). Both
// sides must use the same: it is part of what the key is derived from.
type Cost struct {
	Memory  uint32 // KiB
	Passes  uint32
	Threads uint8
}

// DefaultCost is the second recommended choice of RFC 9106 section 4.
func DefaultCost() Cost { return Cost{Memory: 64 << 10, Passes: 3, Threads: 4} }

// DeriveKey turns a password into the client's login key. Mesh and user are
// its salt, so a guess made against one user or mesh is worth nothing for
// another. The password is taken byte for byte as it was typed.
func DeriveKey(password []byte, cluster identity.ClusterID, user string, cost Cost) (identity.Key, error) {
	if err := CheckUser(user); err != nil {
		return identity.Key{}, err
	}
	if len(password) == 0 || len(password) > MaxPassword {
		return identity.Key{}, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrPassword, len(password), MaxPassword)
	}
	if err := cost.check(); err != nil {
		return identity.Key{}, err
	}
	salt := sha256.Sum256(labelled("meshcrypt password/1", cluster[:], []byte(user)))
	seed := argon2.IDKey(password, salt[:], cost.Passes, cost.Memory, cost.Threads, identity.SeedSize)
	return identity.KeyFromSeed(seed)
}

func (c Cost) check() error {
	lanes := 8 * uint32(c.Threads) // the least memory that argon2 can use
	if c.Threads == 0 || c.Passes == 0 || c.Passes > MaxPasses || c.Memory < lanes || c.Memory > MaxMemory {
		return fmt.Errorf("%w: %+v", ErrCost, c)
	}
	return nil
}

// SignPassword proves, on this connection and for this hello, that the client
// knows the user's password.
func SignPassword(key identity.Key, b Binding, user string) []byte {
	return key.Sign(passwordContext, b.passwordMessage(user))
}

// VerifyPassword returns the principal, or ErrDenied. registered is the user's
// key in the registry; the zero key stands for an unknown user, or one without
// a password, and costs the same.
func VerifyPassword(registered identity.PublicKey, b Binding, user string, signature []byte) (Principal, error) {
	valid := verify(registered, passwordContext, b.passwordMessage(user), signature)
	if !valid || CheckUser(user) != nil {
		return Principal{}, ErrDenied
	}
	return Principal{User: user, Method: MethodPassword}, nil
}

func (b Binding) passwordMessage(user string) []byte {
	return labelled("", b.Exporter[:], b.Hello[:], []byte(user))
}
