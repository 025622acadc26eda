package record

// Limits of records (I10). The first two are those of TLS 1.3.
const (
	// MaxContent is how many bytes one record carries.
	MaxContent = 1 << 14
	// MaxRecord is how many may follow the header of one: TLS allows padding, and so
	// much of it.
	MaxRecord = MaxContent + 256
	// MaxRecords is how many a key protects in its life. There is no key update: a
	// connection that says something every second comes to its end after half a year, and
	// another one takes its place. For ChaCha20-Poly1305 no number that could be counted
	// to is too many (RFC 8446 5.5), and AES-GCM would bear 2^24.5; the end shall
	// come where it was tested, not where 64 bits wrap.
	MaxRecords = 1 << 24
)
