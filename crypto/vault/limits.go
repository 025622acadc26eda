package vault

// Bounds on what is sealed (I10).
const (
	MaxSecret = 16 << 10 // bytes of one secret
	MaxName   = 128      // bytes of a secret's name
)

// A data key seals under random 96-bit nonces, which stay far from colliding
// below 2^32 boxes. The registry seals a handful of secrets for each change of
// voters, and each change brings a new data key, so no count is kept.
