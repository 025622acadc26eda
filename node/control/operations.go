package control

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/auth"
)

// Names of the operations.
const (
	OpStatus        = "status"
	OpMembers       = "members"
	OpSessions      = "sessions"
	OpKick          = "sessions/kick"
	OpTokenCreate   = "token/create"
	OpTokenList     = "token/list"
	OpTokenRevoke   = "token/revoke"
	OpClientPut     = "client/put"
	OpClientEnable  = "client/enable"
	OpClientList    = "client/list"
	OpClientRevoke  = "client/revoke"
	OpClientProfile = "client/profile"
	OpCAShow        = "ca/show"
	OpCAIssue       = "ca/issue"
	OpCAImport      = "ca/import"
	OpCARevoke      = "ca/revoke"
	OpPolicyShow    = "policy/show"
	OpPolicySet     = "policy/set"
	OpLeave         = "leave"
	OpDrain         = "drain"
	OpRaftPeers     = "raft/peers"
	OpRaftTransfer  = "raft/transfer"
	OpRaftRemove    = "raft/remove"
	OpSnapshotSave  = "snapshot/save"
	OpRefuse        = "refuse"
	OpDisconnect    = "disconnect"
)

// Nothing is the request or answer of an operation that needs none.
type Nothing struct{}

// Status is what a node knows of itself and the mesh, measured at call time.
type Status struct {
	Schema    string             `json:"schema"`
	Health    string             `json:"health"` // ok or degraded
	Problems  []string           `json:"problems"`
	Cluster   identity.ClusterID `json:"cluster"`
	Name      string             `json:"name"`
	Node      identity.NodeID    `json:"node"`
	Index     identity.Index     `json:"index"`
	Version   string             `json:"version"`
	Uptime    time.Duration      `json:"uptime_ns"`
	Arbiter   string             `json:"arbiter"` // name; empty when none is known
	Fence     string             `json:"fence"`   // incarnation.term
	WordAge   time.Duration      `json:"arbiter_word_age_ns"`
	Voter     bool               `json:"voter"`
	Drained   bool               `json:"drained,omitempty"` // it gets no work
	Roles     []string           `json:"roles"`
	CertLeft  time.Duration      `json:"certificate_left_ns"`
	Slices    int                `json:"slices"`
	Routes    int                `json:"routes"`
	Parts     []string           `json:"parts"`               // pool parts this node is egress of
	Path      string             `json:"path"`                // verdict of the plaintext path self-test
	Copied    int                `json:"copied,omitempty"`    // masqueraded flows of egresses it is second of
	Userspace bool               `json:"userspace,omitempty"` // no TUN: flows of clients end in the process
	Flows     int                `json:"flows,omitempty"`     // that do
	Gateway   *GatewayUse        `json:"gateway,omitempty"`   // what clients take of it
	Pool      []PoolRow          `json:"pool,omitempty"`      // its use, on the arbiter
	Unjudged  bool               `json:"unjudged,omitempty"`  // the arbiter does not say what clients may reach
	Delivered map[string]uint64  `json:"delivered"`
	Dropped   map[string]uint64  `json:"dropped"`
	Memory    *MemoryUse         `json:"memory,omitempty"`
	// PutBack counts what other software removed from this host and is back, by kind.
	PutBack map[string]uint64 `json:"put_back,omitempty"`
}

// MemoryUse is what the daemon's own memory is for, in bytes.
type MemoryUse struct {
	Live       uint64 `json:"live"`   // of the heap, at the last collection
	Heap       uint64 `json:"heap"`   // with what is not collected yet, and the room between
	Stacks     uint64 `json:"stacks"` // of its goroutines
	Free       uint64 `json:"free"`   // kept for later
	Goroutines uint64 `json:"goroutines"`
}

// GatewayUse is what a gateway holds for clients just now.
type GatewayUse struct {
	Rows     int `json:"rows"`      // ways back to clients, of all nodes together
	Ports    int `json:"ports"`     // sockets towards nodes
	MaxPorts int `json:"max_ports"` // clients of one node
	Streams  int `json:"streams"`   // clients that come by TCP
}

// Members lists the mesh.
type Members struct {
	Schema  string   `json:"schema"`
	Members []Member `json:"members"`
}

// Outers are the member's outer addresses, one or one of each family.
func (m Member) Outers() []netip.AddrPort { return registry.Outers(m.Outer, m.Other) }

// Member is one node.
type Member struct {
	Name     string          `json:"name"`
	ID       identity.NodeID `json:"id"`
	Index    identity.Index  `json:"index"`
	Outer    netip.AddrPort  `json:"outer"`
	Other    netip.AddrPort  `json:"other,omitzero"` // of the other family
	Inside   netip.Addr      `json:"inside"`
	May      []string        `json:"may"`
	Is       []string        `json:"is"`
	State    string          `json:"state"` // up, silent, drained, two-hosts
	Arbiter  bool            `json:"arbiter"`
	Voter    bool            `json:"voter"`
	Load     float64         `json:"load"` // 0..1, as its stream says
	Slices   int             `json:"slices"`
	Capacity uint32          `json:"capacity_mcpu"`
	// Violations are packets that should not exist, as the node told the
	// present arbiter.
	Violations []Violation `json:"violations,omitempty"`
	// Copied is the address of another host that has the node's key; it carries
	// nothing. Zero: there is none.
	Copied netip.AddrPort `json:"copied,omitzero"`
}

// Violation is what one node dropped for one such reason.
type Violation struct {
	Reason string        `json:"reason"`
	Source netip.Addr    `json:"source"` // of the newest
	Count  uint64        `json:"count"`
	Age    time.Duration `json:"age_ns"` // of the newest
}

// Sessions lists sessions.
type Sessions struct {
	Schema   string    `json:"schema"`
	Sessions []Session `json:"sessions"`
}

// Session is one session.
type Session struct {
	ID        string         `json:"id"`
	Client    string         `json:"client"`
	Leases    []netip.Addr   `json:"leases"`
	State     string         `json:"state"`
	Reason    string         `json:"reason,omitempty"`
	Egress    string         `json:"egress"`
	Second    string         `json:"second"`
	Mode      string         `json:"mode"`
	Suite     string         `json:"suite"`            // cipher of its slices
	Shares    string         `json:"shares"`           // capacity or equal
	SprayUDP  bool           `json:"spray_udp"`        // one flow of UDP may take several slices
	Skew      uint32         `json:"skew_ms"`          // what its paths differ by, as its client measured it; 0: not known
	Calmed    string         `json:"calmed,omitempty"` // what is done about that
	Connected bool           `json:"connected"`        // its control connection is open
	Parked    bool           `json:"parked,omitempty"` // it is not, by agreement: the client is idle
	Reach     []netip.Prefix `json:"reach"`            // what it may reach
	// NotAllowed is packets of its present slices, both ways, dropped because it
	// may not reach, or be reached from, their other end.
	NotAllowed uint64        `json:"not_allowed"`
	Slices     []Slice       `json:"slices"`
	Bytes      uint64        `json:"bytes"`
	Age        time.Duration `json:"age_ns"`
}

// Slice is one slice of a session.
type Slice struct {
	Number uint8   `json:"number"`
	Epoch  uint32  `json:"epoch"`
	Agent  string  `json:"agent"`
	State  string  `json:"state"`
	Weight uint32  `json:"weight"`
	SPI    string  `json:"spi"`
	In     uint64  `json:"bytes_in"`
	Out    uint64  `json:"bytes_out"`
	Share  float64 `json:"share"` // of the session's bytes, both ways
	Up     float64 `json:"share_up"`
	Down   float64 `json:"share_down"`
	Delay  uint32  `json:"delay_us"` // of its path, there and back; 0: not measured
	Loss   float64 `json:"loss"`
	Behind float64 `json:"reordered"` // part of the answers that came behind a newer one
	Quiet  uint64  `json:"quiet_s"`   // for how long its client was silent when the agent said so last, rounded up; 0: this arbiter was not told
	Direct bool    `json:"direct"`    // the client sends straight to the agent, past the gateway
}

// SessionsRequest selects sessions; ID may be a prefix.
type SessionsRequest struct {
	ID    string `json:"id,omitempty"`
	Ended bool   `json:"ended,omitempty"`
}

// KickRequest ends a session; ID may be a prefix.
type KickRequest struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// TokenRequest asks for a join token.
type TokenRequest struct {
	Roles []string      `json:"roles"`
	Uses  int           `json:"uses"`
	TTL   time.Duration `json:"ttl_ns"`
}

// TokenCreated is a fresh token; it is shown once.
type TokenCreated struct {
	Schema string `json:"schema"`
	Token  string `json:"token"`
}

// Tokens lists tokens, without their secrets.
type Tokens struct {
	Schema string  `json:"schema"`
	Tokens []Token `json:"tokens"`
}

// Token is one join token.
type Token struct {
	ID    string        `json:"id"`
	Roles []string      `json:"roles"`
	Uses  int           `json:"uses_left"`
	Left  time.Duration `json:"left_ns"`
	State string        `json:"state"` // valid, used, expired, revoked
}

// NameRequest names one object.
type NameRequest struct {
	Name string `json:"name"`
}

// ClientRequest adds a client or, with Replace, changes what Change names of one.
// Neither password nor pre-shared key travels: only what checks a proof of it.
type ClientRequest struct {
	Client  registry.Client `json:"client"`
	Replace bool            `json:"replace"`
	Change  []string        `json:"change,omitempty"`
}

// What may change of a client.
const (
	ChangePassword  = "password" // of one that logs in by password
	ChangeLogin     = "login"    // how it logs in, and by what
	ChangePrefixes  = "prefixes"
	ChangeBandwidth = "bandwidth"
)

// Authority has the client log in by certificates of an imported CA, or of the
// mesh's own if none is named.
func (r *ClientRequest) Authority(name string) {
	r.Client.Authority = cmp.Or(name, registry.MeshAuthority)
}

// SharedKey has the client log in by a pre-shared key.
func (r *ClientRequest) SharedKey(v auth.Verifier) {
	r.Client.SharedKey = &registry.SharedKey{Stored: v.Stored, Server: v.Server}
}

// Refusals are whom and what a registry denies; a voter has others deny it, too.
type Refusals struct {
	Clients      []string               `json:"clients,omitempty"`
	Authorities  []string               `json:"authorities,omitempty"`
	Certificates []registry.Certificate `json:"certificates,omitempty"`
	Nodes        []identity.NodeID      `json:"nodes,omitempty"`
}

// Clients lists clients.
type Clients struct {
	Schema  string      `json:"schema"`
	Clients []ClientRow `json:"clients"`
}

// ClientRow is one client of the registry.
type ClientRow struct {
	Name     string         `json:"name"`
	State    string         `json:"state"` // allowed or revoked
	Group    string         `json:"group"`
	Login    string         `json:"login"` // how: password, psk, or certificate and whose
	Prefixes []netip.Prefix `json:"prefixes"`
	Sessions int            `json:"sessions"`
}

// DrainRequest withdraws or returns a node's roles; empty Node is this one.
type DrainRequest struct {
	Node string `json:"node"`
	Undo bool   `json:"undo"`
}

// Drained is how far a drain is.
type Drained struct {
	Holds bool `json:"holds"` // it carries slices, old epochs or a part of the pool
}

// Snapshot is the whole registry, in the form that restore reads. Its secrets
// are sealed.
type Snapshot struct {
	Schema string `json:"schema"`
	Index  uint64 `json:"index"`
	Data   []byte `json:"data"`
}

// RaftPeers lists the Raft configuration.
type RaftPeers struct {
	Schema string     `json:"schema"`
	Term   uint64     `json:"term"`
	Index  uint64     `json:"index"`
	Peers  []RaftPeer `json:"peers"`
}

// RaftPeer is one server of the configuration.
type RaftPeer struct {
	Name   string          `json:"name"`
	ID     identity.NodeID `json:"id"`
	Leader bool            `json:"leader"`
	Voter  bool            `json:"voter"`
	Silent bool            `json:"silent"` // the arbiter has no stream of it
	// Unfit is why it could not take over now though it is not silent.
	Unfit string `json:"unfit,omitempty"`
}

// Profile is the text that a client connects with.
type Profile struct {
	Schema  string `json:"schema"`
	Profile string `json:"profile"`
}
