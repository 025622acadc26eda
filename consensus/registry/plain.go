package registry

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// plain is the state as one JSON object, which snapshots up to version 4 are. It is read
// into this whole; writeObject writes it.
type plain struct {
	Cluster  Cluster                      `json:"cluster"`
	Tick     Tick                         `json:"tick"`
	Index    uint64                       `json:"index"`
	Term     uint64                       `json:"term"`
	Nodes    map[identity.NodeID]*Node    `json:"nodes"`
	Indexes  map[identity.Index]IndexHold `json:"indexes"`
	Tokens   map[string]*Token            `json:"tokens"`
	Clients  map[string]*Client           `json:"clients"`
	Policy   Policy                       `json:"policy"`
	Parts    []Part                       `json:"parts"`
	Leases   map[netip.Addr]*Lease        `json:"leases"`
	Sessions map[SessionID]*Session       `json:"sessions"`
	Requests map[RequestID]SessionID      `json:"requests"`
	Secrets  map[string]Sealed            `json:"secrets"`
	Wraps    map[string][]byte            `json:"wraps"`

	Authorities  map[string]*Authority          `json:"authorities,omitempty"`
	Certificates map[CertificateID]*Certificate `json:"certificates,omitempty"`

	DataKey       uint64           `json:"data_key"`
	Applied       []AppliedCommand `json:"applied"` // newest last, at most MaxApplied
	HeadlessFloor Tick             `json:"headless_floor"`
	EpochFloor    uint32           `json:"epoch_floor,omitempty"`
	Voters        int              `json:"voters,omitempty"`
	Enlarged      bool             `json:"enlarged,omitempty"`
}

// UnmarshalJSON reads such a state whole, or nothing of it.
func (s *State) UnmarshalJSON(raw []byte) error {
	p := &plain{}
	if err := json.Unmarshal(raw, p); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	*s = *p.state()
	return s.consistent()
}

// check wants every object to be there, and to be what it is filed as.
func (p *plain) check() error {
	for id, n := range p.Nodes {
		if n == nil || n.ID != id {
			return fmt.Errorf("%w: node %s", ErrSnapshot, id.Short())
		}
	}
	for id, ses := range p.Sessions {
		if ses == nil || ses.ID != id {
			return fmt.Errorf("%w: session %s", ErrSnapshot, id.Short())
		}
	}
	for id, cert := range p.Certificates {
		if cert == nil || cert.ID != id {
			return fmt.Errorf("%w: certificate %s", ErrSnapshot, id)
		}
	}
	if absent(p.Tokens) || absent(p.Clients) || absent(p.Leases) || absent(p.Authorities) {
		return fmt.Errorf("%w: an object is absent", ErrSnapshot)
	}
	return nil
}

func absent[K comparable, V any](m map[K]*V) bool {
	for _, v := range m {
		if v == nil {
			return true
		}
	}
	return false
}

func (p *plain) state() *State {
	s := New()
	s.Cluster, s.Tick, s.Index, s.Term, s.Policy, s.Parts = p.Cluster, p.Tick, p.Index, p.Term, p.Policy, p.Parts
	s.DataKey, s.HeadlessFloor, s.EpochFloor, s.Voters, s.Enlarged = p.DataKey, p.HeadlessFloor, p.EpochFloor, p.Voters, p.Enlarged
	fill(&s.Indexes, p.Indexes)
	fill(&s.Tokens, p.Tokens)
	fill(&s.Secrets, p.Secrets)
	fill(&s.Wraps, p.Wraps)
	fill(&s.Authorities, p.Authorities)
	for id, n := range p.Nodes {
		s.respend(id, n.Spent, n.SpentKept)
		n.Spent, n.SpentKept = nil, 0
		s.Nodes[id] = n
	}
	for name, c := range p.Clients {
		s.Clients.Put(name, c)
	}
	for a, l := range p.Leases {
		l.pack()
		s.putLease(a, l)
	}
	for _, ses := range p.Sessions {
		ses.pack()
		s.putSession(ses)
	}
	for id, session := range p.Requests {
		s.Requests.Put(id, session)
	}
	for _, c := range p.Certificates {
		s.putCertificate(c)
	}
	for _, c := range p.Applied {
		s.applied.remember(c)
	}
	return s
}

// fill takes over a map that is there.
func fill[K comparable, V any](m *map[K]V, from map[K]V) {
	if from != nil {
		*m = from
	}
}

// respend takes over SPIs that an agent was granted, behind those that are known.
func (s *State) respend(agent identity.NodeID, spis []uint32, kept int) {
	if len(spis) == 0 {
		return
	}
	sp, ok := s.spent.Find(agent)
	if !ok {
		sp = newSpent()
	}
	for _, spi := range spis {
		sp.add(spi)
	}
	sp.kept = kept
	s.spent.Put(agent, sp)
}

// consistent refuses a state on which Apply could stumble: every reference leads
// somewhere.
func (s *State) consistent() error {
	for id, t := range s.Tokens {
		if t.Burned == nil {
			return fmt.Errorf("%w: token %q", ErrSnapshot, clip(id))
		}
	}
	for a, l := range s.Leases.All() {
		if !l.idle() && !s.Sessions.Has(l.Session) {
			return fmt.Errorf("%w: lease %s", ErrSnapshot, a)
		}
	}
	for request, id := range s.Requests.All() {
		if !s.Sessions.Has(id) {
			return fmt.Errorf("%w: request %s", ErrSnapshot, request)
		}
	}
	return nil
}
