package port

import (
	"time"

	"github.com/meshcrypt/meshcrypt/node/slots"
)

// Limits of the port. Everything a stranger can make us keep is named here.
const (
	// MaxHello is the most bytes read before a ClientHello must be whole.
	// A post-quantum hello is about 1,800 bytes.
	MaxHello = 16 << 10
	// HelloTimeout is how long a connection may take to send its hello.
	HelloTimeout = 5 * time.Second
	// QueueTimeout is how long it then waits for a slot: a client has given up
	// not long after.
	QueueTimeout = 3500 * time.Millisecond
	// WaitTimeout is the same for a client that is told then when to come again: it may
	// wait at a gateway, and at the arbiter after that.
	WaitTimeout = 2500 * time.Millisecond
	// RelayWait is how long a gateway then looks for an arbiter to pass a connection on to.
	// Clients know the three: they hear nothing for as long as all of them together.
	RelayWait = 3 * time.Second
	// waitWithin bounds the saying of that.
	waitWithin = 100 * time.Millisecond
	// HandshakeTimeout is how long the TLS handshake behind it may take.
	HandshakeTimeout = 10 * time.Second
	// SettleAfter is how long a relayed connection, or one that carries
	// datagrams, counts as one of nobody known. Nothing here tells when its
	// client proves itself; the arbiter takes at most this long.
	SettleAfter = HandshakeTimeout + 5*time.Second

	// MaxConnections is how many connections the port holds in all, those
	// of clients relayed to the arbiter included, those that a Listener has
	// handed out not. ReservedConnections of them are for nodes alone.
	MaxConnections      = 1 << 17
	ReservedConnections = 1024
	// MaxBacklog is how many finished handshakes a Listener keeps for its
	// Accept. One more is closed.
	MaxBacklog = 64

	// MaxSourceSlots is how many handshakes of one source of strangers, or of
	// clients known, may go on at once; see slots.Source.
	MaxSourceSlots = 8
	// MaxStrangerSlots, MaxKnownSlots, MaxMemberSlots and MaxRelaySlots are
	// those of all sources of a class.
	MaxStrangerSlots = 512
	MaxKnownSlots    = 256
	MaxMemberSlots   = 256
	MaxRelaySlots    = 128
	// MaxStrangerRoom and its siblings are how many connections of a class may
	// be without a proof of who they are.
	MaxStrangerRoom = 4096
	MaxKnownRoom    = 2048
	MaxMemberRoom   = 1024
	MaxRelayRoom    = 1024
	// MemberSourceSlots bounds what one node may begin at once, for its address
	// may be shared by others.
	MemberSourceSlots = 64
	// StrangerRate is how many handshakes a second each CPU does for strangers, a
	// small part of what it could. RelayRate is how many it does for nodes
	// that pass strangers on, and KnownRate for clients known, who come all at once
	// when their gateway was away, at this port and passed on. What exceeds it waits.
	StrangerRate = 100
	RelayRate    = 200
	KnownRate    = 300
	// LoginRate is how many logins a second each CPU is taken to do until it was measured:
	// who waits is told by that when to come again.
	LoginRate = 50
	// SourceRate and SourceBurst bound the handshakes of one source of strangers
	// or of clients known. Who proves itself gets its token back, so only
	// strangers run dry.
	SourceRate  = 50
	SourceBurst = 200

	// MaxRelayFrame is the longest first frame of a relay stream.
	MaxRelayFrame = 64
	// RelayFrameTimeout is how long that frame may take.
	RelayFrameTimeout = 5 * time.Second

	// DescriptorShare is which part of the descriptors this process may have
	// goes to connections of strangers. A relayed one takes two.
	DescriptorShare = 8

	// acceptRetry is the pause after an Accept that failed for want of
	// descriptors.
	acceptRetry = 50 * time.Millisecond
	// freeLines and lineRate bound the lines of the log that say so: so many at once, and so
	// many a second.
	freeLines = 4
	lineRate  = 1.0 / 60
	// slotEvery is how often slots are given out while somebody waits and
	// nothing else happens.
	slotEvery = 10 * time.Millisecond
)

// rules are the classes of this host.
func rules(cpus, descriptors int) (r [5]slots.Rule) {
	rate, relays, known := float64(StrangerRate*cpus), float64(RelayRate*cpus), float64(KnownRate*cpus)
	logins := float64(LoginRate * cpus)
	r[slots.Stranger] = slots.Rule{
		Slots: MaxStrangerSlots, PerSource: MaxSourceSlots, Room: max(1, min(MaxStrangerRoom, descriptors/DescriptorShare)),
		Rate: rate, Burst: rate / 2, Expected: logins, EachRate: SourceRate, EachBurst: SourceBurst,
	}
	r[slots.Known] = slots.Rule{
		Slots: MaxKnownSlots, PerSource: MaxSourceSlots, Room: max(1, min(MaxKnownRoom, descriptors/DescriptorShare)),
		Rate: known, Burst: known, Expected: logins, EachRate: SourceRate, EachBurst: SourceBurst,
	}
	r[slots.Member] = slots.Rule{Slots: MaxMemberSlots, PerSource: MemberSourceSlots, Room: MaxMemberRoom}
	r[slots.Relay] = slots.Rule{
		Slots: MaxRelaySlots, PerSource: MemberSourceSlots, Room: MaxRelayRoom, Rate: relays, Burst: relays,
	}
	r[slots.RelayKnown] = slots.Rule{
		Slots: MaxRelaySlots, PerSource: MemberSourceSlots, Room: MaxRelayRoom, Rate: known, Burst: known,
	}
	return r
}
