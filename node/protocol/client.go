package protocol

import (
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// Client is a message of a client connection (ALPN "meshcrypt/1"); exactly one field is
// set. The first four steps are M1, M2 and M3 of MKA/1; the rest keeps the
// session going.
type Client struct {
	Hello   *Hello      `json:"hello,omitempty"`   // C→L, M1
	Auth    *Auth       `json:"auth,omitempty"`    // C→L, M2
	Welcome *Welcome    `json:"welcome,omitempty"` // L→C, M3
	Refused *Refused    `json:"refused,omitempty"` // L→C, instead of Welcome
	Offer   *SliceOffer `json:"offer,omitempty"`   // L→C, a slice granted later
	Drop    *SliceRef   `json:"drop,omitempty"`    // L→C, stop using this epoch
	Update  *Update     `json:"update,omitempty"`  // L→C, what was pushed changed
	Weights *Weights    `json:"weights,omitempty"` // L→C, of slices that it has
	Alive   *Alive      `json:"alive,omitempty"`   // both ways, word from the other end
	Up      *SliceRef   `json:"up,omitempty"`      // C→L, the slice carries traffic
	Silent  *SliceRef   `json:"silent,omitempty"`  // C→L, the slice is condemned
	Bye     *Bye        `json:"bye,omitempty"`     // both ways, the session is over
	Park    *Park       `json:"park,omitempty"`    // C→L, may this end and the session go on
	Parked  *Parked     `json:"parked,omitempty"`  // L→C, it may: answer to Park

	once *once // of one that goes to many
}

// Hello carries M1 and the proof that the sender holds the session key.
type Hello struct {
	Hello     []byte `json:"hello"` // mka.Hello, marshalled
	Signature []byte `json:"signature"`
	// Mode is the slicing mode wanted; empty leaves it to the mesh.
	Mode registry.Mode `json:"mode,omitempty"`
	// Shares and SprayUDP are wishes too; see registry.Session.
	Shares   registry.Shares `json:"shares,omitempty"`
	SprayUDP bool            `json:"spray_udp,omitempty"`
	// Device is the id of the sender's device, DeviceProof mka.SignDevice of it; none:
	// the session key stands for the device.
	Device      []byte `json:"device,omitempty"`
	DeviceProof []byte `json:"device_proof,omitempty"`
	// Beats says that the sender knows beats, so an arbiter may send some.
	Beats bool `json:"beats,omitempty"`
	// Channel says that TLS may be left once the login is proven (node/channel).
	Channel bool `json:"channel,omitempty"`
	// Attempt numbers the sender's connections: of two for one session the higher is the
	// later one, whichever arrives first. 0: the sender counts none.
	Attempt uint64 `json:"attempt,omitempty"`
}

// Methods of Auth.
const (
	MethodPassword    = "password"
	MethodSharedKey   = "psk"
	MethodCertificate = "certificate"
	MethodResume      = "resume"
)

// Auth is the client's authentication, bound to the TLS exporter.
type Auth struct {
	Method  string             `json:"method"`
	User    string             `json:"user,omitempty"`
	Session registry.SessionID `json:"session,omitzero"` // of a resumption
	Held    []SliceRef         `json:"held,omitempty"`   // slices the resuming client still has up
	Chain   [][]byte           `json:"chain,omitempty"`  // of a certificate: the leaf first, DER
	Proof   []byte             `json:"proof"`
}

// Welcome is M3: the session and its slices.
type Welcome struct {
	Session  registry.SessionID `json:"session"`
	Leases   []netip.Addr       `json:"leases"`
	Mode     registry.Mode      `json:"mode"`
	SprayUDP bool               `json:"spray_udp,omitempty"`
	Slices   []SliceOffer       `json:"slices"`
	Update   Update             `json:"update"`
	Headless uint64             `json:"headless"`        // seconds without word from an arbiter
	Proof    []byte             `json:"proof,omitempty"` // of the mesh, to a client with a pre-shared key
	Parks    bool               `json:"parks,omitempty"` // the arbiter knows Park
}

// Park asks whether anything is left to be said. One that gets no answer stays.
type Park struct{}

// Parked says that nothing is. Mark stands for all that the client was told; it says
// it to its agents for as long as it is parked. It is never 0.
type Parked struct {
	Mark uint64 `json:"mark"`
}

// Weights is what slices weigh from now on; their keys stay.
type Weights struct {
	Slices []registry.SliceWeight `json:"slices"`
}

// Update is what an arbiter pushes to a client and may change later.
type Update struct {
	Gateways []netip.AddrPort `json:"gateways"`
	Prefixes []netip.Prefix   `json:"prefixes"`
	// DNS and Search are what names are resolved by, through the tunnel.
	DNS    []netip.Addr `json:"dns,omitempty"`
	Search []string     `json:"search,omitempty"`
}

// SliceOffer is a slice granted to an agent, with what the client needs for
// its Accept.
type SliceOffer struct {
	Grant  []byte `json:"grant"`  // mka.SignedGrant
	Prekey []byte `json:"prekey"` // mka.SignedPrekey
	Share  []byte `json:"share"`  // r_A, 32 bytes
	Spare  bool   `json:"spare,omitempty"`
	// Inside is the agent's own inside address: packets to it are for the agent's
	// host itself, and go over this slice.
	Inside netip.Addr `json:"inside,omitzero"`
	// Direct says that the grant's gateways are the agent's own outer addresses:
	// the slice may go straight there.
	Direct bool `json:"direct,omitempty"`
}

// SliceRef names one epoch of a slice. Session is left out where the
// connection belongs to one session.
type SliceRef struct {
	Session registry.SessionID `json:"session,omitzero"`
	Number  uint8              `json:"number"`
	Epoch   uint32             `json:"epoch"`
	Reason  string             `json:"reason,omitempty"`
}

// Codes of Refused; they map to the exit codes of the command line.
const (
	RefusedVersion  = "version"  // no common version or suite
	RefusedAuth     = "auth"     // who are you
	RefusedPolicy   = "policy"   // known, but not allowed
	RefusedCapacity = "capacity" // no agent has room
	RefusedRetry    = "retry"    // no arbiter right now, or the outcome is unknown
	RefusedSession  = "session"  // the session to resume is over
)

// ItEnded stands in a RefusedSession before why the session ended.
const ItEnded = "it ended: "

// Refused tells a client why it gets no session.
type Refused struct {
	Code   string `json:"code"`
	Reason string `json:"reason"`
	// Wait is for how many seconds the same will be refused; 0: it is not said.
	Wait int64  `json:"wait,omitempty"`
	Next string `json:"next,omitempty"` // what to do about it; empty: see the code
}

// Alive says that the sender is there; from an arbiter it resets headless.
type Alive struct {
	Bytes uint64 `json:"bytes,omitempty"` // C→L: moved so far, both ways
	Flow
	Paths []Path `json:"paths,omitempty"` // C→L: of the slices in use
}

// Equal reports whether two say the same.
func (a Alive) Equal(b Alive) bool {
	return a.Bytes == b.Bytes && a.Flow == b.Flow && slices.Equal(a.Paths, b.Paths)
}

// Flow is what the paths of a session differ by, as its client measured it;
// 0 is not known.
type Flow struct {
	Skew uint32 `json:"skew_ms,omitempty"` // the slowest path against the fastest
	Gap  uint32 `json:"gap_ms,omitempty"`  // single packets, delays in queues included
}

// FlowOf rounds to milliseconds.
func FlowOf(skew, gap time.Duration) Flow {
	return Flow{Skew: uint32(skew.Milliseconds()), Gap: uint32(gap.Milliseconds())}
}

// SkewTime is Skew as a time.
func (f Flow) SkewTime() time.Duration { return time.Duration(f.Skew) * time.Millisecond }

// GapTime is Gap as a time.
func (f Flow) GapTime() time.Duration { return time.Duration(f.Gap) * time.Millisecond }

// Path is what a client measured of one slice's path lately.
type Path struct {
	Number    uint8  `json:"number"`
	Epoch     uint32 `json:"epoch"`
	Delay     uint32 `json:"delay_us"`
	Loss      uint32 `json:"loss_permille,omitempty"`
	Reordered uint32 `json:"reordered_permille,omitempty"`
	Direct    bool   `json:"direct,omitempty"` // past the common gateway
}

// Bye ends the session.
type Bye struct {
	Reason string `json:"reason"`
	Bytes  uint64 `json:"bytes,omitempty"`
}
