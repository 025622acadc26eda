package host

import "time"

const (
	// MaxPool is the largest number of prefixes in a node's pool.
	MaxPool = 16
	// MaxLeases is the largest number of addresses of one client.
	MaxLeases = 16
	// MaxPrefixes is the largest number of prefixes pushed to one client.
	MaxPrefixes = 1024
	// MaxHeld is the largest number of inside addresses a node holds: those of
	// both families, of every part that a mesh may have.
	MaxHeld = 128
	// MaxHidden is the largest number of parts a node hides behind addresses.
	MaxHidden = 256
	// SettleTime is how long changes of the network are gathered before a
	// watcher hears of them.
	SettleTime = 100 * time.Millisecond
	// maxJumps is how deep the self-test follows a foreign firewall's chains, as
	// deep as the kernel lets them go.
	maxJumps = 16
	// rulePriority is that of the rule by which an operator puts the main table
	// before those of other VPNs.
	rulePriority = 50
	// maxNameLen is the length of an interface name, IFNAMSIZ less its zero.
	maxNameLen = 15
	// maxJournal bounds the state file.
	maxJournal = 1 << 20
	// maxSettings bounds the sysctls of one state file: every interface of a
	// large host twice.
	maxSettings = 1 << 13
	// maxSolicitation and maxControl bound a question of a neighbour and what
	// the kernel says of it; what is longer is cut and fails to parse.
	maxSolicitation = 1500
	maxControl      = 128
	// maxFaults is how many errors in a row end the listening for questions.
	maxFaults = 64
)

// announceFirst and announceEvery are the pauses before the second and all
// later announcements of an address: neighbours ignore a change within a second
// of the last one.
const (
	announceFirst = 300 * time.Millisecond
	announceEvery = 1200 * time.Millisecond
)
