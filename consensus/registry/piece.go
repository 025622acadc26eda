package registry

import (
	"fmt"
	"maps"
	"slices"
)

// take puts the objects of a piece into the state, whatever others there are.
func (s *State) take(p *piece) error {
	if p.Head != nil {
		s.begin(p.Head)
	}
	if p.absent() {
		return fmt.Errorf("%w: an object is absent", ErrSnapshot)
	}
	s.takeMembers(p)
	for _, c := range p.Clients {
		s.Clients.Put(c.Name, c)
	}
	for _, ses := range p.Sessions {
		ses.pack()
		s.putSession(ses)
	}
	for request, id := range p.Requests {
		s.Requests.Put(request, id)
	}
	for a, l := range p.Leases {
		l.pack()
		s.putLease(a, l)
	}
	for _, c := range p.Certificates {
		s.putCertificate(c)
	}
	for _, c := range p.Applied {
		s.applied.remember(c)
	}
	return s.fits(largest)
}

func (s *State) begin(h *head) {
	s.Cluster, s.Tick, s.Index, s.Term, s.Policy, s.Parts = h.Cluster, h.Tick, h.Index, h.Term, h.Policy, h.Parts
	s.DataKey, s.HeadlessFloor, s.EpochFloor, s.Voters, s.Enlarged = h.DataKey, h.HeadlessFloor, h.EpochFloor, h.Voters, h.Enlarged
	fill(&s.Indexes, h.Indexes)
}

func (s *State) takeMembers(p *piece) {
	for _, n := range p.Nodes {
		s.Nodes[n.ID] = n
	}
	for _, sp := range p.Spent {
		s.respend(sp.Agent, sp.SPIs, sp.Kept)
	}
	for _, t := range p.Tokens {
		s.Tokens[t.ID] = t
	}
	for _, a := range p.Authorities {
		s.Authorities[a.Name] = a
	}
	maps.Copy(s.Secrets, p.Secrets)
	maps.Copy(s.Wraps, p.Wraps)
}

func (p *piece) absent() bool {
	return slices.Contains(p.Nodes, nil) || slices.Contains(p.Tokens, nil) || slices.Contains(p.Clients, nil) ||
		slices.Contains(p.Sessions, nil) || slices.Contains(p.Authorities, nil) || slices.Contains(p.Certificates, nil) ||
		absent(p.Leases)
}

// fits refuses a state that no build makes.
func (s *State) fits(room Room) error {
	if s.Sessions.Len() > room.Sessions || s.Requests.Len() > room.Sessions || s.Leases.Len() > room.Leases ||
		s.Clients.Len() > room.Clients || s.Certificates.Len() > room.Certificates {
		return fmt.Errorf("%w: %d sessions, %d leases, %d clients, %d certificates", ErrSnapshot,
			s.Sessions.Len(), s.Leases.Len(), s.Clients.Len(), s.Certificates.Len())
	}
	return nil
}
