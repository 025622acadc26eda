package host

import "time"

const (
	// MaxPool is the largest number of prefixes in a node's pool.
	MaxPool = 16
	// MaxLeases is the largest number of addresses of one client.
	MaxLeases = 16
	// MaxPrefixes is the largest number of prefixes pushed to one client.
	MaxPrefixes = 1024
	// MaxExcept is how many prefixes a client's user may except.
	MaxExcept = 64
	// maxWhy bounds what the state file says of a client's end, in bytes.
	maxWhy = 512
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
	// maxARP is more than an ARP message of Ethernet and IPv4 has.
	maxARP = 64
	// MaxDeviceEvent is the longest event of a device that is looked at; the kernel's
	// are at most half as long. deviceEventsRoom is how many bytes of them may wait.
	MaxDeviceEvent   = 4096
	deviceEventsRoom = 1 << 20
	// maxFaults is how many errors in a row end the listening for questions.
	maxFaults = 64
	// maxElements is how many elements of an nft set one message carries: a
	// netlink attribute has 64 KiB, an element of IPv6 up to 40 bytes.
	maxElements = 1000
	// maxAsked is for how many of a client's prefixes the kernel is asked where it
	// leads them.
	maxAsked = 16
	// maxMessages is how much is read of the kernel's messages at once.
	maxMessages = 1 << 16
	// fightMost is how often in a row what was put back may be undone at once,
	// until somebody is taken to fight us.
	fightMost = 10
)

const (
	// sysctlEvery is how often sysctls are looked at, of which the kernel sends no
	// message, and lookEvery how often the whole is, should a message be missed.
	sysctlEvery = 500 * time.Millisecond
	lookEvery   = 5 * time.Second
	// lookGap is the least time between two looks.
	lookGap = 20 * time.Millisecond
	// fightSoon is how soon after a put-back an undoing counts as a fight, and
	// fightPause how long to wait then: nobody is fought for good.
	fightSoon  = 2 * time.Second
	fightPause = time.Second
	// tellEvery bounds the lines in the log about one kind of thing.
	tellEvery = 10 * time.Second
	// aroundGap is the least time between two looks at the host around us.
	// and aroundShare how many times as long as a look took. Without a message it is
	// looked at after aroundEvery.
	aroundGap   = time.Second
	aroundShare = 5
	aroundEvery = 30 * time.Second
)

// announceFirst and announceEvery are the pauses before the second and all
// later announcements of an address: neighbours ignore a change within a second
// of the last one.
const (
	announceFirst = 300 * time.Millisecond
	announceEvery = 1200 * time.Millisecond
)
