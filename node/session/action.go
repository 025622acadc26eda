package session

import (
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Action is something to do, in the order returned; the types below are all
// there are.
type Action interface{ action() }

// Tag names one proposal within the life of an Arbitrator.
type Tag uint64

// Propose puts a command to the log; its outcome comes back as Committed. A
// Tag that is seen again is the same command, whose outcome was unknown.
type Propose struct {
	Tag     Tag
	Command registry.Command
}

// SendGrant tells an agent of its slice, signed, with a fresh share. The
// answer comes back as SliceAck.
type SendGrant struct {
	Node    identity.NodeID
	Session registry.SessionID
	Slice   registry.Slice
}

// What is what a client is told.
type What uint8

// What a client can be told.
const (
	Opened  What = iota + 1 // answer to Open or Resume: the session, and these slices
	Granted                 // push: these slices replace older epochs of their numbers, or are new
	Ended                   // the session is over, Reason says why
	Parked                  // answer to Park: nothing is
)

// SendClient tells the client of a session. Each slice was acknowledged by
// its agent; grant, prekey and share of each go along.
type SendClient struct {
	Request  registry.RequestID // its present stream
	Session  registry.SessionID
	What     What
	Slices   []registry.Slice
	Absorbed bool   // of Opened: taken although capacity lacks
	Reason   string // of Ended
}

// Code is why a request is refused.
type Code string

// The codes of refusal.
const (
	Denied      Code = "denied"      // by capacity or revocation
	Forbidden   Code = "forbidden"   // by policy
	TooMany     Code = "too-many"    // by policy: the client has as many sessions as it may
	Full        Code = "full"        // no address is free
	Unavailable Code = "unavailable" // not now; the same request may succeed later
	Gone        Code = "gone"        // there is no such session to resume
)

// Refuse answers a request that gets no session.
type Refuse struct {
	Request registry.RequestID
	Code    Code
	Reason  string
	Wait    time.Duration // the same may succeed after; 0: nothing speaks for it
}

// CloseClient closes a client's stream without a word: the outcome of its
// request is unknown, and asking again with the same request finds it out.
type CloseClient struct{ Request registry.RequestID }

// RevokeSlice tells an agent to forget an epoch.
type RevokeSlice struct {
	Node    identity.NodeID
	Session registry.SessionID
	Number  uint8
	Epoch   uint32
}

// CallClient has the agents of a session call its client, which is parked.
type CallClient struct{ Session registry.SessionID }

// DropPrekey says that a prekey which was taken from its pool is granted to nobody: its
// agent is to make another.
type DropPrekey struct {
	Node identity.NodeID
	SPI  uint32
}

// KeepPart tells a second that its takeover of a part is not confirmed: the
// egress lives, and the second gives the inside address back at once.
type KeepPart struct {
	Node identity.NodeID
	Part netip.Prefix
}

// NodeDrained says that a drained node holds nothing any more.
type NodeDrained struct{ Node identity.NodeID }

// AlertOperator is a sentence for the operator.
type AlertOperator struct{ Text string }

func (Propose) action()       {}
func (SendGrant) action()     {}
func (SendClient) action()    {}
func (Refuse) action()        {}
func (CloseClient) action()   {}
func (CallClient) action()    {}
func (RevokeSlice) action()   {}
func (DropPrekey) action()    {}
func (KeepPart) action()      {}
func (NodeDrained) action()   {}
func (AlertOperator) action() {}
