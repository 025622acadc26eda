package tun

const (
	// MaxQueues is the largest number of queues of one device, the kernel's own.
	MaxQueues = 256
	// MaxPieces is the largest number of pieces one Write gathers: a header
	// and the datagrams of one train, each with a header of its own.
	MaxPieces = 130
	// MinMTU is what IPv4 asks of every link.
	MinMTU = 68
	// MaxNameLen is the length of an interface name, IFNAMSIZ less its zero.
	MaxNameLen = 15
)
