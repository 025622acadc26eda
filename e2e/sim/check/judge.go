// Package check holds a run of the simulation against what the mesh promises. It is told
// what was seen, when, and says what must not have been: I2 (keys after a stop), I3, I6,
// I12, I13 (design 10), one owner of an egress address and no other for nothing, a term
// that serves what is committed, recovery in time.
//
// It keeps a registry of its own, of the entries that were committed; what agents really
// have comes from their own tables. The package owns the rules' wording alone: neither
// what happens nor what is looked at is its business. It is pure.
package check

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// MaxViolations are kept: the first ones say what went wrong.
const MaxViolations = 50

// Config is what the judge knows of a mesh.
type Config struct {
	Names map[identity.NodeID]string // for the messages
	// Quorum says that three or more vote: an egress that is cut off has to let go.
	Quorum bool
	// Beyond says that the plan asks for more than is promised: committed entries may be
	// lost, if not in silence.
	Beyond bool
}

// Violation is what must not be.
type Violation struct {
	Rule string // I3
	At   time.Duration
	What string
}

// String is a line of a failed run.
func (v Violation) String() string {
	return fmt.Sprintf("%v %s: %s", v.At.Round(time.Microsecond), v.Rule, v.What)
}

// Judge is of one run. Observations come in the order of their times.
type Judge struct {
	config     Config
	violations []Violation
	said       map[string]bool

	history   history
	owned     map[slot]owner
	former    map[slot]identity.NodeID // to whom the history that was given up had granted it
	spent     map[prekey]slot
	void      map[slot]time.Duration // since when
	agents    map[identity.NodeID]*agentSeen
	gone      map[identity.NodeID]time.Duration // when the last of its processes that ended did
	ways      map[slot]way
	comes     map[registry.SessionID]time.Duration // when a client is there that nobody can call
	sessions  map[registry.SessionID]*sessionSeen
	left      map[string]bool               // clients that ended their session
	ordered   map[registry.SessionID]string // sessions that an operator or policy ended
	holders   map[netip.Addr]*addressSeen   // of egress addresses
	addresses []netip.Addr                  // in the order of their first holder
	stopped   map[identity.NodeID]bool      // hosts that stand still
	apart     map[[2]identity.NodeID]bool   // that do not hear each other
	lossy     bool                          // packets are lost all over
	clear     time.Duration                 // since when they are not
	calm      calm
	named     map[naming]time.Duration // since when an arbiter's word was so
	recovery  recovery
}

// New is a judge who has seen nothing.
func New(c Config) *Judge {
	return &Judge{
		config: c, said: make(map[string]bool), history: newHistory(),
		owned: make(map[slot]owner), spent: make(map[prekey]slot), void: make(map[slot]time.Duration), agents: make(map[identity.NodeID]*agentSeen),
		gone: make(map[identity.NodeID]time.Duration), ways: make(map[slot]way), comes: make(map[registry.SessionID]time.Duration),
		sessions: make(map[registry.SessionID]*sessionSeen), left: make(map[string]bool),
		ordered: make(map[registry.SessionID]string), holders: make(map[netip.Addr]*addressSeen),
		stopped: make(map[identity.NodeID]bool), apart: make(map[[2]identity.NodeID]bool), clear: -time.Hour,
		named: make(map[naming]time.Duration),
	}
}

// Violations are what must not have been, by time.
func (j *Judge) Violations() []Violation { return j.violations }

// fail says something once.
func (j *Judge) fail(at time.Duration, rule, format string, args ...any) {
	v := Violation{rule, at, fmt.Sprintf(format, args...)}
	if j.said[rule+v.What] || len(j.violations) == MaxViolations {
		return
	}
	j.said[rule+v.What] = true
	j.violations = append(j.violations, v)
}

func (j *Judge) name(id identity.NodeID) string {
	if n := j.config.Names[id]; n != "" {
		return n
	}
	return id.Short()
}

// slot is one epoch of a slice.
type slot struct {
	session registry.SessionID
	number  uint8
	epoch   uint32
}

// String is how messages name it.
func (s slot) String() string {
	return fmt.Sprintf("slice %d of session %s at epoch %d", s.number, s.session.Short(), s.epoch)
}

func less(a, b protocol.Fence) bool {
	return a.Incarnation < b.Incarnation || a.Incarnation == b.Incarnation && a.Term < b.Term
}

func fence(f protocol.Fence) string { return fmt.Sprintf("%d.%d", f.Incarnation, f.Term) }
