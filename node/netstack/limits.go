package netstack

// Limits of the stack (I10).
const (
	// MaxQueues bounds the queues of a device.
	MaxQueues = 16
	// MaxQueued and MaxQueuedBytes bound what waits in one queue for the
	// packet engine. TCP takes what is dropped behind them for congestion.
	MaxQueued      = 1024
	MaxQueuedBytes = 16 << 20
	// MaxLeases and MaxPrefixes bound what a session may bring.
	MaxLeases   = 8
	MaxPrefixes = 1024
	// MaxBuffer is how far a connection's buffer grows, each way: 1 Gbit/s
	// over a round trip of 48 ms.
	MaxBuffer = 6 << 20

	minBuffer, firstBuffer = 4 << 10, 1 << 20
	// MaxUnanswered is how many connections may have been asked for and not
	// been answered yet, where a stack answers for every address; what comes
	// beyond is asked again by its sender. It knows no clients, so it must be
	// more than whoever answers lets one of them have (node/masquerade).
	MaxUnanswered = 4096

	// maxSegment is the largest super-packet that TCP makes, with its headers.
	maxSegment = 65535
)
