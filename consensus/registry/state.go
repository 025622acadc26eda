// Package registry is the replicated truth of a mesh: nodes, clients, policy,
// leases, sessions, slices. Apply(State, Command) is pure and deterministic:
// no clock, no randomness, no I/O; time is a count of ticks that the arbiter
// commits. Safety lives here (one owner per slice epoch, no lease given twice,
// nothing granted to the revoked); who tries what and when is node/session's.
//
// The package owns the state, its commands and their codecs. It does not own
// the log (consensus), and it never sees a traffic key.
package registry

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/consensus/registry/sorted"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Tick is elapsed time in seconds since the mesh was founded, as committed by
// its arbiters. It only grows, and stands still while no arbiter runs.
type Tick uint64

// Roles is a set of what a node may be or is.
type Roles uint8

// The roles of a node. Egress is not among them: it is a field of a session.
const (
	RoleVoter Roles = 1 << iota
	RoleGateway
	RoleAgent
	RoleWitness
)

// EgressKind is how replies find their way back to a lease.
type EgressKind string

// The kinds of egress.
const (
	EgressRouted     EgressKind = "routed"
	EgressMasquerade EgressKind = "masquerade"
	EgressLocal      EgressKind = "local"
)

// Overload is what happens to a session that no agent has room for.
type Overload string

// The answers to overload (patent, Timing Model: "handle the additional load
// or deny the connection based on configuration settings").
const (
	OverloadAbsorb Overload = "absorb"
	OverloadDeny   Overload = "deny"
)

// HandOn is how plaintext is handed on over the inside network.
type HandOn string

// The ways to hand on.
const (
	HandOnClear  HandOn = "clear"
	HandOnSealed HandOn = "sealed" // under an SA of the two nodes
)

// Mode is how a session's runs are spread over its slices.
type Mode string

// The slicing modes.
const (
	ModeAuto    Mode = "auto"
	ModeBurst   Mode = "burst"
	ModePacket  Mode = "packet"
	ModeFlowlet Mode = "flowlet"
	ModePin     Mode = "pin"
)

// Shares is what the slices of a session are weighted by.
type Shares string

// The kinds of shares.
const (
	SharesCapacity Shares = "capacity" // what each agent has free, followed while the session lasts
	SharesEqual    Shares = "equal"    // 1/N each
)

// SessionID names one session; 16 random bytes chosen by the arbiter.
type SessionID [16]byte

// CommandID makes a command idempotent; 16 random bytes chosen by its proposer.
type CommandID [16]byte

// RequestID is a client's name for one request to open a session; asking
// again with it finds the same session.
type RequestID [16]byte

// DeviceID tells a client's devices apart; 16 random bytes that the device chose.
// Zero: it did not say, and its session key stands for it.
type DeviceID [16]byte

// State is the whole registry. One goroutine changes it, by Apply; readers elsewhere
// get a Clone. Nothing that is in it is ever changed in place, only replaced.
type State struct {
	Cluster  Cluster
	Tick     Tick
	Index    uint64 // raft index of the last command applied
	Term     uint64 // raft term of that command
	Nodes    map[identity.NodeID]*Node
	Indexes  map[identity.Index]IndexHold
	Tokens   map[string]*Token
	Clients  sorted.Map[string, *Client]
	Policy   Policy
	Parts    []Part
	Leases   sorted.Map[netip.Addr, *Lease]
	Sessions Sessions
	Requests sorted.Map[RequestID, SessionID]
	Secrets  map[string]Sealed
	Wraps    map[string][]byte // NodeID or RecoveryWrap → wrapped data key

	// Authorities are imported CAs, Certificates what the mesh issued to clients and
	// what of anybody's is revoked.
	Authorities  map[string]*Authority
	Certificates sorted.Map[CertificateID, *Certificate]

	DataKey uint64

	// HeadlessFloor is the last tick at which a node that missed a shortening of
	// the headless time may still run by the longer one; holds never end before it
	// (I13).
	HeadlessFloor Tick

	// EpochFloor is below all epochs that are granted from now on: a mesh that was recovered
	// does not know those that were granted in what its log lacks (I3). Zero: never recovered,
	// or by a build that did not know of it.
	EpochFloor uint32

	// Voters is how many nodes vote, as the arbiter counted them; 0 in a state
	// from before they were counted.
	Voters int

	// Enlarged says that there is room for more than builds before version 5 of the
	// codecs take in.
	Enlarged bool

	// Feed is told what commands change; nil where nobody asks.
	Feed *Feed

	applied applied
	spent   sorted.Map[identity.NodeID, spent] // what living nodes' boots were granted
	index   index
}

// Cluster is what init decides for the life of the mesh.
type Cluster struct {
	ID          identity.ClusterID `json:"id"`
	Incarnation uint64             `json:"incarnation"` // raised by restore and recover
	CA          []byte             `json:"ca"`          // certificate, DER
	Pool        []netip.Prefix     `json:"pool"`
	Egress      EgressKind         `json:"egress"`

	// Recovery is the offline recovery key's public half: every generation of the
	// data key is wrapped to it. A mesh founded without it cannot renew the key.
	Recovery []byte `json:"recovery,omitempty"`
}

// Node is a host that has joined. May is what its token allowed, Is what the
// arbiter has it do.
type Node struct {
	ID      identity.NodeID    `json:"id"`
	Key     identity.PublicKey `json:"key"`
	WrapKey []byte             `json:"wrap_key"` // HPKE public key (X-Wing) for the data key
	Name    string             `json:"name"`
	Index   identity.Index     `json:"index"`
	May     Roles              `json:"may"`
	Is      Roles              `json:"is"`
	Outer   netip.AddrPort     `json:"outer"`          // where clients and nodes reach it, UDP and TCP
	Other   netip.AddrPort     `json:"other,omitzero"` // the same in the other family; zero where it has one
	Inside  netip.Addr         `json:"inside"`         // its own address on the inside network
	// Exposed says that strangers reach its inside interface.
	Exposed bool `json:"exposed,omitempty"`
	// Networks are those that its inside interface is attached to; none: not told.
	Networks []netip.Prefix `json:"networks,omitempty"`
	Capacity uint32         `json:"capacity"` // thousandths of a CPU offered
	Mbit     uint32         `json:"mbit"`     // calibrated sealing capacity, Mbit/s
	Drained  bool           `json:"drained"`
	Removed  bool           `json:"removed"` // key refused from now on
	Joined   Tick           `json:"joined"`

	RemovedAt Tick              `json:"removed_at"`
	Boot      identity.BootID   `json:"boot"`       // the process that may hold slices
	PastBoots []identity.BootID `json:"past_boots"` // superseded, newest last, at most MaxPastBoots

	// Spent are SPIs granted in this boot, newest last, SpentKept how many were left
	// when they were last trimmed: in JSON only, the state has them apart.
	Spent     []uint32 `json:"spent"`
	SpentKept int      `json:"spent_kept"`
}

// IndexHold keeps an index from being given again while an SA could still
// carry it (I13).
type IndexHold struct {
	Node identity.NodeID `json:"node"`
	Free Tick            `json:"free"` // 0 while held; else when it may be given again
}

// Token admits nodes. The secret is never stored, only a key to check proofs with.
type Token struct {
	ID      string                                 `json:"id"`
	Verify  []byte                                 `json:"verify"` // HMAC key derived from the secret
	May     Roles                                  `json:"may"`
	Uses    int                                    `json:"uses"` // left
	Expires Tick                                   `json:"expires"`
	Burned  map[identity.NodeID]identity.PublicKey `json:"burned"` // so that a retry succeeds
	Revoked bool                                   `json:"revoked"`
}

// Authority is an imported CA whose certificates let clients in, as long as a
// client says so.
type Authority struct {
	Name    string   `json:"name"`
	Roots   [][]byte `json:"roots"` // trust anchors, DER
	Created Tick     `json:"created"`
	Revoked bool     `json:"revoked"`
}

// CertificateID is the SHA-256 of a certificate's issuer and serial number.
type CertificateID [32]byte

// Certificate is what the registry keeps of a client's certificate.
type Certificate struct {
	ID        CertificateID `json:"id"`
	Authority string        `json:"authority"` // MeshAuthority or an imported one; empty: not known
	Serial    string        `json:"serial"`    // hexadecimal, for people
	Client    string        `json:"client,omitempty"`
	Ends      int64         `json:"ends"` // Unix seconds of its last moment; 0: not known
	Revoked   bool          `json:"revoked"`
}

// SharedKey checks a client's pre-shared key and lets it check the mesh. It is no
// login secret itself, see node/auth.
type SharedKey struct {
	Stored []byte `json:"stored"`
	Server []byte `json:"server"`
}

// Client is somebody who may open sessions.
type Client struct {
	Name        string             `json:"name"`
	PasswordKey identity.PublicKey `json:"password_key"` // argon2id-derived, see node/auth
	SharedKey   *SharedKey         `json:"shared_key,omitempty"`
	Authority   string             `json:"authority,omitempty"` // whose certificates let it in; empty: nobody's
	Group       string             `json:"group"`
	Bandwidth   uint64             `json:"bandwidth"` // bit/s wanted by default; 0: the policy's
	Prefixes    []netip.Prefix     `json:"prefixes"`  // routes pushed; empty: the policy's
	Revoked     bool               `json:"revoked"`
	Created     Tick               `json:"created"`
}

// Policy is the current version of what the mesh allows.
type Policy struct {
	Version   uint64         `json:"version"`
	Headless  uint64         `json:"headless"`        // seconds data runs without word from an arbiter; 0: see State.Headless
	Overload  Overload       `json:"overload"`        // absorb or deny
	Bandwidth uint64         `json:"bandwidth"`       // bit/s assumed when nothing is said
	Slices    int            `json:"slices"`          // most slices of one session; 0: MaxSlices
	Mode      Mode           `json:"mode"`            // of a session that asks for none
	Modes     []Mode         `json:"modes,omitempty"` // that may be asked for; none: all
	Prefixes  []netip.Prefix `json:"prefixes"`        // routes pushed to clients
	// Suites are the ciphers that sessions may use, best first, by MKA/1's numbers;
	// empty: any, and the client's order counts.
	Suites []uint16 `json:"suites,omitempty"`
	// DNS and Search are what clients resolve names by.
	DNS    []netip.Addr `json:"dns,omitempty"`
	Search []string     `json:"search,omitempty"`
	// HandOn is how plaintext passes between nodes; empty: in clear.
	HandOn HandOn `json:"hand_on,omitempty"`
	// Direct lets clients send slices straight to their agents' outer addresses.
	Direct bool `json:"direct,omitempty"`
	// Sessions is how many one client may have open at a time; 0: no limit.
	Sessions int `json:"sessions_per_client,omitempty"`
}

// Part is one part of the pool with its own moving inside address, and, in a
// pool of both families, with one of each. A session gets an address of every
// family, and the sessions of a part share its egress.
type Part struct {
	Prefix netip.Prefix    `json:"prefix"` // names the part
	Inside netip.Addr      `json:"inside"` // moving address; zero: routes are made by hand
	Egress identity.NodeID `json:"egress"`
	Second identity.NodeID `json:"second"`
	Epoch  uint64          `json:"epoch"` // grows with every change of egress
	Next   netip.Addr      `json:"next"`  // where the search for a free lease goes on

	// Other is the part in the pool's other family; zero where there is none.
	Other Range `json:"other,omitzero"`
}

// Range is what a part has in one family.
type Range struct {
	Prefix netip.Prefix `json:"prefix"`
	Inside netip.Addr   `json:"inside"`
	Next   netip.Addr   `json:"next"`
}

// Lease is an inner address given to a client.
type Lease struct {
	Client  string    `json:"client"`
	Session SessionID `json:"session"` // zero when none is open
	Free    Tick      `json:"free"`    // 0 while held; else when it may go to another client, whoever has not answered
	Device  DeviceID  `json:"device,omitzero"`
	Holding           // of the session that had it last
}

// SessionState is where a session stands.
type SessionState string

// The states of a session.
const (
	SessionActive SessionState = "active"
	SessionEnded  SessionState = "ended"
)

// Session is an admitted client.
type Session struct {
	ID       SessionID          `json:"id"`
	Client   string             `json:"client"`
	Device   DeviceID           `json:"device,omitzero"`
	Request  RequestID          `json:"request"`
	Key      identity.PublicKey `json:"key"`      // pk_S
	Identity []byte             `json:"identity"` // SHA-256 of the authenticated identity
	Hello    []byte             `json:"hello"`    // SHA-256 of M1
	// Certificate is what the client logged in by; nil: by something else.
	Certificate *Certificate    `json:"certificate,omitempty"`
	Leases      []netip.Addr    `json:"leases"` // inner addresses, at most one per family
	Egress      identity.NodeID `json:"egress"`
	Second      identity.NodeID `json:"second"`
	EgressKind  EgressKind      `json:"egress_kind"`
	// Peer is the node that the client named as its other end: all slices are on
	// it. Zero: none.
	Peer      identity.NodeID `json:"peer,omitzero"`
	Mode      Mode            `json:"mode"`
	Shares    Shares          `json:"shares,omitempty"`    // empty: by capacity
	SprayUDP  bool            `json:"spray_udp,omitempty"` // one flow of UDP may take several slices
	Bandwidth uint64          `json:"bandwidth"`           // bit/s
	Policy    uint64          `json:"policy"`              // version it was admitted under
	Slices    []Slice         `json:"slices"`              // current epoch of each, by Number
	Retiring  []Slice         `json:"retiring"`            // older epochs that still open packets
	State     SessionState    `json:"state"`
	Reason    string          `json:"reason"`
	Opened    Tick            `json:"opened"`
	Ended     Tick            `json:"ended"`
	Bytes     uint64          `json:"bytes"` // both ways, as last reported
	Holding                   // while it is active; its leases have it then
}

// SliceState is where one epoch of a slice stands.
type SliceState string

// The states of a slice epoch.
const (
	SliceGranted SliceState = "granted" // committed, keys not yet proven
	SliceUp      SliceState = "up"      // first valid ESP seen
	SliceVoid    SliceState = "void"    // refused, condemned or dead; waits for the next epoch
)

// Slice is one agent's share of a session at one epoch. Exactly one agent owns
// (session, number, epoch): I3.
type Slice struct {
	Number uint8           `json:"number"`
	Epoch  uint32          `json:"epoch"`
	Class  uint8           `json:"class"` // traffic class; 0 is all traffic
	Suite  uint16          `json:"suite"`
	Agent  identity.NodeID `json:"agent"`
	Boot   identity.BootID `json:"boot"`
	SPI    uint32          `json:"spi"`
	Weight uint32          `json:"weight"`
	Spare  bool            `json:"spare"` // keyed and probed, carries traffic only while no other slice does
	State  SliceState      `json:"state"`
	Index  uint64          `json:"index"` // raft index that committed it
	Term   uint64          `json:"term"`
	Since  Tick            `json:"since"` // tick of the last change of state
}

// Sealed is a secret under the data key (crypto/vault); the registry cannot read it.
type Sealed struct {
	Generation uint64 `json:"generation"` // of the data key
	Box        []byte `json:"box"`
}

// AppliedCommand remembers a command's outcome, for deduplication.
type AppliedCommand struct {
	ID     CommandID `json:"id"`
	Result Result    `json:"result"`
}
