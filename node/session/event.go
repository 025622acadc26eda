package session

import (
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Event is something that happened; the types below are all there are.
type Event interface{ event() }

// NodeUp says that a node's stream to this arbiter is open. Prekeys of an
// earlier stream are gone; whatever another boot was granted is void.
type NodeUp struct {
	Node identity.NodeID
	Boot identity.BootID
}

// NodeDown says that the stream of that boot is closed.
type NodeDown struct {
	Node identity.NodeID
	Boot identity.BootID
}

// Prekeys brings SPIs of fresh prekeys of the node's present boot.
type Prekeys struct {
	Node identity.NodeID
	SPIs []uint32
}

// Load is a node's own figure, by gossip or stream: a hint.
type Load struct {
	Node     identity.NodeID
	Used     float64 // 0..1 of what it offers
	Capacity uint32  // thousandths of a CPU
	Mbit     uint32  // calibrated sealing capacity, Mbit/s
}

// Open is an authenticated client's request for a session.
type Open struct {
	Request   registry.RequestID
	Client    string
	Device    registry.DeviceID // its earlier session ends; zero: the key stands for it
	Track     bool              // all replicas can record who holds SAs: see registry.OpenSession
	Bandwidth uint64            // bit/s; 0: the client's, then the policy's default
	Entered   identity.NodeID   // the gateway it came through
	Key       identity.PublicKey
	Identity  []byte
	Hello     []byte
	// Certificate is what the client logged in by; nil: by something else.
	Certificate *registry.Certificate
	Mode        registry.Mode   // empty: the policy's
	Shares      registry.Shares // empty: by capacity
	SprayUDP    bool
	Suite       uint16
	Peer        identity.NodeID // all slices on this node; zero: by load
}

// Resume is a client that comes back to its session under a new request.
type Resume struct {
	Session  registry.SessionID
	Request  registry.RequestID
	Key      identity.PublicKey
	Hello    []byte
	KeepsSAs bool // it still has the keys of slices that are up
}

// ClientGone says that no stream of that request is open any more. When a
// client asked again over a second stream, the end of the first says nothing.
type ClientGone struct{ Request registry.RequestID }

// Committed is the outcome of a proposal. Unknown: it may or may not have
// been committed, now or later.
type Committed struct {
	Tag     Tag
	Result  registry.Result
	Unknown bool
}

// SliceAck is an agent's answer to a grant.
type SliceAck struct {
	Node    identity.NodeID
	Session registry.SessionID
	Number  uint8
	Epoch   uint32
	Refused string // why not; empty: accepted
}

// SliceUp says that a valid packet passed under that epoch's keys.
type SliceUp struct {
	Session registry.SessionID
	Number  uint8
	Epoch   uint32
	Client  bool // says so, not the agent
}

// SliceSilent is the verdict of client or egress that a slice is silent while
// a sibling is heard.
type SliceSilent struct {
	Session registry.SessionID
	Number  uint8
	Epoch   uint32
	Gone    bool // one of the two has its keys no more
}

// Heard says how long ago an agent heard the clients of sessions last.
type Heard struct {
	Ago map[registry.SessionID]time.Duration
	// Parked are those of them whose clients say that they are parked.
	Parked []registry.SessionID
}

// Park is a client's question whether anything is left to be said to it: it would close
// its stream, and come when it is called.
type Park struct{ Request registry.RequestID }

// Takeover is a second's word that it took a part's inside address.
type Takeover struct {
	Node identity.NodeID
	Part netip.Prefix
	// Asked says that the second is still asked by the egress, which does not
	// answer it: so the second hears, and the egress does not.
	Asked bool
}

// Condition is a node's word on whether it forwards as it should.
type Condition struct {
	Node identity.NodeID
	Is   Soundness
}

// Soundness is whether a node may be trusted with other hosts' packets.
type Soundness uint8

// The three, the best first. A node is mended for a while after its last fault.
const (
	Whole Soundness = iota
	Mended
	Broken
)

// Drain asks to withdraw all of a node's data roles, or to give them back.
type Drain struct {
	Node identity.NodeID
	On   bool
}

// End ends a session: its client left, an operator kicked it, or policy says so.
type End struct {
	Session registry.SessionID
	Reason  string
	Bytes   uint64
}

func (NodeUp) event()      {}
func (NodeDown) event()    {}
func (Prekeys) event()     {}
func (Load) event()        {}
func (Open) event()        {}
func (Resume) event()      {}
func (ClientGone) event()  {}
func (Committed) event()   {}
func (SliceAck) event()    {}
func (SliceUp) event()     {}
func (SliceSilent) event() {}
func (Heard) event()       {}
func (Park) event()        {}
func (Takeover) event()    {}
func (Condition) event()   {}
func (Drain) event()       {}
func (End) event()         {}
