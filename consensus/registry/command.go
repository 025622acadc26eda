package registry

import (
	"errors"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Command is one change, as it stands in the log: exactly one field beside ID
// is set. Apply rechecks everything a proposer may have checked before.
type Command struct {
	ID CommandID `json:"id"`

	Found        *Found        `json:"found,omitempty"`
	AdvanceTick  *AdvanceTick  `json:"advance_tick,omitempty"`
	CreateToken  *CreateToken  `json:"create_token,omitempty"`
	RevokeToken  *RevokeToken  `json:"revoke_token,omitempty"`
	JoinNode     *JoinNode     `json:"join_node,omitempty"`
	UpdateNode   *UpdateNode   `json:"update_node,omitempty"`
	RemoveNode   *RemoveNode   `json:"remove_node,omitempty"`
	SetRoles     *SetRoles     `json:"set_roles,omitempty"`
	PutClient    *PutClient    `json:"put_client,omitempty"`
	RevokeClient *RevokeClient `json:"revoke_client,omitempty"`
	PutPolicy    *PutPolicy    `json:"put_policy,omitempty"`
	MovePart     *MovePart     `json:"move_part,omitempty"`
	OpenSession  *OpenSession  `json:"open_session,omitempty"`
	GrantSlice   *GrantSlice   `json:"grant_slice,omitempty"`
	MarkSlice    *MarkSlice    `json:"mark_slice,omitempty"`
	ResumeKey    *ResumeKey    `json:"resume_key,omitempty"`
	EndSession   *EndSession   `json:"end_session,omitempty"`
	PutSecrets   *PutSecrets   `json:"put_secrets,omitempty"`
	Reincarnate  *Reincarnate  `json:"reincarnate,omitempty"`
	CountVoters  *CountVoters  `json:"count_voters,omitempty"`
	WeighSlices  *WeighSlices  `json:"weigh_slices,omitempty"`
	Acknowledge  *Acknowledge  `json:"acknowledge,omitempty"`
	MarkSlices   *MarkSlices   `json:"mark_slices,omitempty"`
	Enlarge      *Enlarge      `json:"enlarge,omitempty"`

	PutAuthority    *PutAuthority    `json:"put_authority,omitempty"`
	RevokeAuthority *RevokeAuthority `json:"revoke_authority,omitempty"`
	PutCertificate  *PutCertificate  `json:"put_certificate,omitempty"`
}

// Denies says that somebody is refused from this command on, who was not before: it must
// not be forgotten.
func (c Command) Denies() bool {
	return c.RevokeToken != nil || c.RemoveNode != nil || c.RevokeClient != nil || c.RevokeAuthority != nil ||
		c.PutCertificate != nil && c.PutCertificate.Certificate.Revoked
}

// Found is the first command of a mesh: it makes the cluster, its first node
// and its pool parts. It fails on a founded registry.
type Found struct {
	Cluster Cluster           `json:"cluster"`
	Policy  Policy            `json:"policy"`
	Parts   []Part            `json:"parts"`
	Founder Node              `json:"founder"`
	Secrets map[string]Sealed `json:"secrets"`
	Wraps   map[string][]byte `json:"wraps"`
}

// AdvanceTick adds elapsed seconds.
type AdvanceTick struct {
	Elapsed uint64 `json:"elapsed"`
}

// CreateToken adds a join token; Expires in the command is a life in seconds.
type CreateToken struct {
	Token Token `json:"token"`
}

// RevokeToken voids a token.
type RevokeToken struct {
	ID string `json:"id"`
}

// JoinNode burns one use of a token and registers the node under the lowest
// free index. The same key with the same token again is the same node.
type JoinNode struct {
	Token string `json:"token"`
	Node  Node   `json:"node"` // ID, Index, Is, Joined are decided by Apply
}

// UpdateNode reports a node's own facts at each start of its stream.
type UpdateNode struct {
	ID       identity.NodeID `json:"id"`
	Outer    netip.AddrPort  `json:"outer"`
	Other    netip.AddrPort  `json:"other,omitzero"`
	Inside   netip.Addr      `json:"inside"`
	Exposed  bool            `json:"exposed,omitempty"`
	Networks []netip.Prefix  `json:"networks,omitempty"`
	Capacity uint32          `json:"capacity"`
	Mbit     uint32          `json:"mbit"`
	Boot     identity.BootID `json:"boot"` // slices granted to another boot are void; zero: not told
}

// RemoveNode refuses the node's key from now on and holds its index (I13).
type RemoveNode struct {
	ID identity.NodeID `json:"id"`
}

// SetRoles is what a node is to do: never more than it may.
type SetRoles struct {
	ID      identity.NodeID `json:"id"`
	Is      Roles           `json:"is"`
	Drained bool            `json:"drained"`
}

// PutClient adds a client or replaces its fields.
type PutClient struct {
	Client  Client `json:"client"`
	Replace bool   `json:"replace"`
}

// RevokeClient refuses the client and ends its sessions.
type RevokeClient struct {
	Name string `json:"name"`
}

// PutAuthority imports a CA, or again one that was revoked.
type PutAuthority struct {
	Authority Authority `json:"authority"` // Name and Roots
}

// RevokeAuthority refuses an imported CA's certificates from now on and ends the
// sessions that were opened by them.
type RevokeAuthority struct {
	Name string `json:"name"`
}

// PutCertificate lists a certificate that the mesh issued, or revokes anybody's and
// ends its sessions. Now, Unix seconds, lets those be forgotten that ended before.
type PutCertificate struct {
	Certificate Certificate `json:"certificate"`
	Now         int64       `json:"now"`
}

// PutPolicy replaces the policy; its Version is decided by Apply. Over is the
// version that it is to replace; 0: whichever there is.
type PutPolicy struct {
	Policy Policy `json:"policy"`
	Over   uint64 `json:"over,omitempty"`
}

// MovePart gives a pool part, and every session leased from it, another
// egress and second. Epoch must be the part's present one.
type MovePart struct {
	Prefix netip.Prefix    `json:"prefix"`
	Epoch  uint64          `json:"epoch"`
	Egress identity.NodeID `json:"egress"`
	Second identity.NodeID `json:"second"`
}

// OpenSession admits a client: it chooses the leases in the given part and
// grants every slice at epoch 1. A known Request finds its session again.
//
// Track records which agents hold an SA of the session, so that its leases are free
// when all of them have acknowledged its end; then earlier sessions of its device end.
type OpenSession struct {
	// ID, Client, Device, Request, Key, Identity, Hello, Certificate, Peer, Mode, Shares, SprayUDP,
	// Bandwidth
	Session Session      `json:"session"`
	Part    netip.Prefix `json:"part"`
	Slices  []Slice      `json:"slices"` // Number, Class, Suite, Agent, Boot, SPI, Weight
	Track   bool         `json:"track,omitempty"`
}

// GrantSlice gives one slice to an agent at Epoch, which must be the slice's
// present epoch + 1 (or 1 for a new Number). Retire keeps the older epoch
// receiving until it is marked void; otherwise the older epoch is void.
type GrantSlice struct {
	Session SessionID `json:"session"`
	Slice   Slice     `json:"slice"`
	Retire  bool      `json:"retire"`
}

// MarkSlice records that an epoch came up or is void. A retired epoch that is
// marked void is forgotten.
type MarkSlice struct {
	Session SessionID  `json:"session"`
	Number  uint8      `json:"number"`
	Epoch   uint32     `json:"epoch"`
	State   SliceState `json:"state"`
}

// MarkSlices is many MarkSlice at once, of any sessions: one that has no effect, for it
// is about an epoch that is superseded or a session that is over, hinders no other.
type MarkSlices struct {
	Marks []MarkSlice `json:"marks"`
}

// WeighSlices gives slices of a session other weights, at the epochs that they
// have: keys and owners stay. Either all of it takes effect or none.
type WeighSlices struct {
	Session SessionID     `json:"session"`
	Weights []SliceWeight `json:"weights"`
}

// SliceWeight is the weight of one slice epoch.
type SliceWeight struct {
	Number uint8  `json:"number"`
	Epoch  uint32 `json:"epoch"`
	Weight uint32 `json:"weight"`
}

// ResumeKey gives a resumed session the key and hello of its new request, and grants
// each of Slices at the epoch after its present one, which is void from then on. Either
// all of it takes effect or none.
type ResumeKey struct {
	Session SessionID          `json:"session"`
	Request RequestID          `json:"request"`
	Key     identity.PublicKey `json:"key"`
	Hello   []byte             `json:"hello"`
	Slices  []Slice            `json:"slices,omitempty"`
}

// EndSession ends a session with a reason; it stays listed for EndedKept.
type EndSession struct {
	Session SessionID `json:"session"`
	Reason  string    `json:"reason"`
	Bytes   uint64    `json:"bytes"`
}

// Acknowledge records that a process of an agent runs no SA any more of sessions
// that are over.
type Acknowledge struct {
	Agent    identity.NodeID `json:"agent"`
	Boot     identity.BootID `json:"boot"`
	Sessions []SessionID     `json:"sessions"`
}

// Enlarge makes room for MaxSessions and what goes with them. A build that refuses
// more than it always did would become another replica: it stops at this command.
type Enlarge struct{}

// PutSecrets replaces sealed secrets and wraps of the data key. A Recovery key is
// accepted only where the mesh has none.
type PutSecrets struct {
	Generation uint64            `json:"generation"` // of the data key, never less than before
	Secrets    map[string]Sealed `json:"secrets"`
	Wraps      map[string][]byte `json:"wraps"`
	Recovery   []byte            `json:"recovery,omitempty"` // see Cluster.Recovery
}

// Reincarnate raises the incarnation after a restore or recover: tokens are
// void, sessions may resume. What an arbiter granted that is in no log any more
// nobody knows, so time alone frees the addresses that there are.
type Reincarnate struct {
	Incarnation uint64 `json:"incarnation"`

	// Epochs that slices get from now on are above this one: see State.EpochFloor. Zero, as
	// builds before version 7 of the codecs say: they go on from those that are known.
	Epochs uint32 `json:"epochs,omitempty"`
}

// CountVoters records how many nodes vote: the Raft configuration's word, which
// the headless time depends on.
type CountVoters struct {
	Voters int `json:"voters"`
}

// Result is what Apply answers. Code is empty when the command took effect
// (now or, for a repeated ID, before).
type Result struct {
	Code    ErrorCode       `json:"code,omitempty"`
	Detail  string          `json:"detail,omitempty"`
	Index   uint64          `json:"index"` // raft index of the entry that took effect
	Term    uint64          `json:"term"`
	Node    identity.NodeID `json:"node,omitzero"`    // of JoinNode
	Session SessionID       `json:"session,omitzero"` // of OpenSession
}

// ErrorCode is why a command had no effect, stable across versions.
type ErrorCode string

// Error is a Result's code as an error; compare with errors.Is against the
// sentinels below.
type Error struct {
	Code   ErrorCode
	Detail string
}

// Err is nil when the command took effect, else an *Error.
func (r Result) Err() error {
	if r.Code == "" {
		return nil
	}
	return &Error{Code: r.Code, Detail: r.Detail}
}

// Error gives the code and its detail.
func (e *Error) Error() string {
	if e.Detail == "" {
		return "registry: " + string(e.Code)
	}
	return "registry: " + string(e.Code) + ": " + e.Detail
}

// Is matches on the code alone.
func (e *Error) Is(target error) bool {
	var other *Error
	return errors.As(target, &other) && other.Code == e.Code
}

// Why a command had no effect.
var (
	ErrFounded   = &Error{Code: "founded"}   // the mesh exists already
	ErrNotFound  = &Error{Code: "not-found"} // no such object
	ErrExists    = &Error{Code: "exists"}    // object is there already
	ErrToken     = &Error{Code: "token"}     // token unknown, used up, expired or revoked
	ErrRevoked   = &Error{Code: "revoked"}   // client or node is refused
	ErrStale     = &Error{Code: "stale"}     // epoch, boot, generation or incarnation is superseded
	ErrPrekey    = &Error{Code: "prekey"}    // SPI was granted before, or is not of that node
	ErrExhausted = &Error{Code: "exhausted"} // no free lease or index, or a limit is reached
	ErrInvalid   = &Error{Code: "invalid"}   // malformed or contradicting fields
	ErrTooMany   = &Error{Code: "too-many"}  // the client has as many sessions as policy allows
	// ErrUnconfirmed: the session's addresses have too many earlier ones whose end
	// agents have not acknowledged; that takes seconds.
	ErrUnconfirmed = &Error{Code: "unconfirmed"}
	ErrPolicy      = &Error{Code: "policy"}  // the policy does not allow it
	ErrEnded       = &Error{Code: "ended"}   // the session is over
	ErrUnknown     = &Error{Code: "unknown"} // a command of a newer version
)
