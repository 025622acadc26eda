package loop

import "time"

// Times of a stream. A beat is said when nothing else was for Every; three of them may
// be lost, or late, before silence is taken for the end.
const (
	// NodeSilence ends a stream between two nodes: with the way to the next arbiter it
	// is less than the time in which logins have to work again.
	NodeSilence = 1500 * time.Millisecond
	NodeEvery   = NodeSilence / 4
	// NodePatience ends one whose other end does not beat. Builds that know no beat say
	// something every 500 ms, out of loops that are late at times.
	NodePatience = 3 * time.Second
	// ClientSilence ends a stream between a client and its arbiter: ways across the
	// internet are out for a second or two and come back, and there may be many clients.
	ClientSilence = 5 * time.Second
	ClientEvery   = ClientSilence / 3
	// RelayEvery is longer than ClientEvery: what a client and its arbiter beat through a
	// relay keeps it, too.
	RelayEvery = 2 * time.Second
	// ClientPatience ends one whose other end does not beat.
	ClientPatience = 10 * time.Second
)

// pipeShort is how long a record of a Pipe may be that needs no memory of its own: a client's
// beat in a trunk is 35 bytes.
const pipeShort = 48

// NodeGather is how long messages between two nodes wait for others: far less than anything
// that they tell of takes. together is how many go in one write at most.
const (
	NodeGather = 2 * time.Millisecond
	together   = 64
)

// BeatsFree is how many beats are heard at once, as after a pause of this process, and
// BeatsTimes how many times as often as they are due each later one.
const (
	BeatsFree  = 64
	BeatsTimes = 8
)
