package auth

// Bounds on what a client may present (I10).
const (
	MaxUser     = 64   // bytes of a user name
	MaxPassword = 1024 // bytes of a password

	MaxSharedKey = 4096 // bytes of a pre-shared key
	MinKeyBits   = 80   // that a pre-shared key is worth, by a generous estimate
)

// Bounds on Cost, so that a damaged profile cannot eat the client's memory.
const (
	MaxMemory = 1 << 20 // KiB
	MaxPasses = 64
)
