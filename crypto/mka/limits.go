package mka

// Limits of messages (I10). Parsers refuse what lies beyond; senders panic or
// fail before they make it.
const (
	// MaxDatagram is the largest UDP payload that fits the smallest IPv6
	// packet: 1,280 less 40 of IPv6 and 8 of UDP.
	MaxDatagram = 1232

	// MaxVersions and MaxSuites bound the offers of a Hello.
	MaxVersions = 8
	MaxSuites   = 16
	// MaxPeer is the longest name of a peer in a Hello, in bytes.
	MaxPeer = 255

	// MaxGateways and MaxLeases bound the addresses in a Grant; MaxMode is
	// the longest name of a slicing mode, in bytes.
	MaxGateways = 64
	MaxLeases   = 4
	MaxMode     = 32

	// MaxPart is the largest body of one rekey part; MaxRekey the largest
	// message that may be sent in parts, MaxParts their number. A machine
	// reassembles one message at a time.
	MaxPart  = 1000
	MaxParts = 3
	MaxRekey = MaxParts * partPayload
)

// MinSPI is the smallest SPI that may be chosen: 1..255 are reserved by
// RFC 4303 2.1, and 0 marks datagrams that are not ESP.
const MinSPI = 256
