package port

import "time"

// Limits of the port. Everything a stranger can make us keep is named here.
const (
	// MaxHello is the most bytes read before a ClientHello must be whole.
	// A post-quantum hello is about 1,800 bytes.
	MaxHello = 16 << 10
	// HelloTimeout is how long a connection may take to send its hello.
	HelloTimeout = 5 * time.Second
	// HandshakeTimeout is how long the TLS handshake behind it may take.
	HandshakeTimeout = 10 * time.Second
	// MaxHandshakes is how many connections may be between accept and the
	// end of their handshake. One more is closed, not queued: a queue would
	// let the slow delay the quick.
	MaxHandshakes = 512
	// MaxConnections is how many connections the port holds in all, those
	// of clients relayed to the arbiter included, those that a Listener has
	// handed out not.
	MaxConnections = 16384
	// MaxBacklog is how many finished handshakes a Listener keeps for its
	// Accept. One more is closed.
	MaxBacklog = 64

	// SourceRate and SourceBurst bound new connections per second of one
	// source: an IPv4 address or an IPv6 /64. A peer that proves itself by
	// certificate gets its token back, so only strangers run dry.
	SourceRate  = 50
	SourceBurst = 200
	// MaxSources is how many sources one generation remembers; two are kept.
	MaxSources = 8192

	// MaxRelayFrame is the longest first frame of a relay stream.
	MaxRelayFrame = 64
	// RelayFrameTimeout is how long that frame may take.
	RelayFrameTimeout = 5 * time.Second

	// acceptRetry is the pause after an Accept that failed for want of
	// descriptors.
	acceptRetry = 50 * time.Millisecond
)
