package registry

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/meshcrypt/meshcrypt/consensus/registry/sorted"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// entry is where in the log a command stands.
type entry struct{ index, term uint64 }

// change is one command's effect. It checks everything before it touches the
// state, so that a refused command leaves no trace but its remembered result.
type change interface {
	apply(s *State, at entry) (Result, *Error)
}

// New is the registry before its mesh is founded.
func New() *State {
	return &State{
		Nodes: make(map[identity.NodeID]*Node), Indexes: make(map[identity.Index]IndexHold),
		Tokens: make(map[string]*Token), Authorities: make(map[string]*Authority),
		Secrets: make(map[string]Sealed), Wraps: make(map[string][]byte),
		Clients:      sorted.New[string, *Client](strings.Compare),
		Leases:       sorted.New[netip.Addr, *Lease](netip.Addr.Compare),
		Sessions:     newSessions(),
		Requests:     sorted.New[RequestID, SessionID](RequestID.Compare),
		Certificates: sorted.New[CertificateID, *Certificate](CertificateID.Compare),
		applied:      newApplied(),
		spent:        sorted.New[identity.NodeID, spent](compareNodes),
		index:        newIndex(),
	}
}

// Founded reports whether Found took effect.
func (s *State) Founded() bool { return s.Cluster.ID != identity.ClusterID{} }

// Apply makes one committed command take effect and says how it went. It is a
// pure function of the state and its arguments: every replica that applies the
// same entries in order holds the same state. A command whose ID was applied
// before has no second effect and gets the stored result.
func Apply(s *State, index, term uint64, c Command) Result {
	s.Index, s.Term = index, term
	if c.ID == (CommandID{}) {
		return refused(ErrInvalid.with("a command needs an id"), entry{index, term})
	}
	if r, ok := s.applied.result(c.ID); ok {
		return r
	}
	r := s.run(entry{index, term}, c)
	s.applied.remember(AppliedCommand{ID: c.ID, Result: r})
	return r
}

func (s *State) run(at entry, c Command) Result {
	ch, err := c.only()
	if err != nil {
		return refused(err, at)
	}
	if _, founding := ch.(*Found); !founding && !s.Founded() {
		return refused(ErrNotFound.with("the mesh is not founded"), at)
	}
	r, err := ch.apply(s, at)
	if err != nil {
		return refused(err, at)
	}
	r.Index, r.Term = at.index, at.term
	return r
}

func refused(err *Error, at entry) Result {
	return Result{Code: err.Code, Detail: err.Detail, Index: at.index, Term: at.term}
}

// only returns the command's one change.
func (c Command) only() (change, *Error) {
	set := c.changes()
	if len(set) != 1 {
		return nil, ErrInvalid.with("a command carries exactly one change, this one %d", len(set))
	}
	return set[0], nil
}

func (c Command) changes() []change {
	var set []change
	add := func(present bool, ch change) {
		if present {
			set = append(set, ch)
		}
	}
	add(c.Found != nil, c.Found)
	add(c.AdvanceTick != nil, c.AdvanceTick)
	add(c.CreateToken != nil, c.CreateToken)
	add(c.RevokeToken != nil, c.RevokeToken)
	add(c.JoinNode != nil, c.JoinNode)
	add(c.UpdateNode != nil, c.UpdateNode)
	add(c.RemoveNode != nil, c.RemoveNode)
	add(c.SetRoles != nil, c.SetRoles)
	add(c.PutClient != nil, c.PutClient)
	add(c.RevokeClient != nil, c.RevokeClient)
	add(c.PutPolicy != nil, c.PutPolicy)
	add(c.MovePart != nil, c.MovePart)
	add(c.OpenSession != nil, c.OpenSession)
	add(c.GrantSlice != nil, c.GrantSlice)
	add(c.MarkSlice != nil, c.MarkSlice)
	add(c.ResumeKey != nil, c.ResumeKey)
	add(c.EndSession != nil, c.EndSession)
	add(c.PutSecrets != nil, c.PutSecrets)
	add(c.Reincarnate != nil, c.Reincarnate)
	add(c.CountVoters != nil, c.CountVoters)
	add(c.PutAuthority != nil, c.PutAuthority)
	add(c.RevokeAuthority != nil, c.RevokeAuthority)
	add(c.PutCertificate != nil, c.PutCertificate)
	add(c.WeighSlices != nil, c.WeighSlices)
	add(c.Acknowledge != nil, c.Acknowledge)
	add(c.MarkSlices != nil, c.MarkSlices)
	add(c.Enlarge != nil, c.Enlarge)
	return set
}

// with gives the error a detail of at most MaxReason bytes.
func (e *Error) with(format string, args ...any) *Error {
	return &Error{Code: e.Code, Detail: clip(fmt.Sprintf(format, args...))}
}

// clip bounds text that the state keeps. It stays valid UTF-8, or the text
// would come back from a snapshot as another one.
func clip(text string) string {
	if len(text) > MaxReason {
		text = text[:MaxReason]
	}
	return strings.ToValidUTF8(text, "?")
}

// validName holds names to characters that mean nothing to a shell, a log or a URI.
func validName(name string) bool {
	if name == "" || len(name) > MaxName || name[0] == '-' {
		return false
	}
	for _, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
		digit := r >= '0' && r <= '9'
		if !letter && !digit && !strings.ContainsRune("._-@+", r) {
			return false
		}
	}
	return true
}
