package arbiter

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// sliceKey names one epoch of a slice.
type sliceKey struct {
	session registry.SessionID
	number  uint8
	epoch   uint32
}

func keyOf(r protocol.SliceRef) sliceKey { return sliceKey{r.Session, r.Number, r.Epoch} }

// offer is a granted slice on its way to the client: in memory for as long as
// agent and client need it, nowhere else.
type offer struct {
	epoch  uint32
	grant  mka.SignedGrant
	prekey mka.SignedPrekey
	share  mka.Share
	spare  bool
	direct bool // the grant's gateways are the agent's own addresses
}

// sendGrant signs what was committed and gives it to the agent, with a fresh
// share of the slice's keys.
func (a *Arbiter) sendGrant(action session.SendGrant) {
	sl := action.Slice
	n, o := a.nodes[action.Node], a.offerOf(action.Session, sl.Number, sl.Epoch)
	if n == nil || o == nil && n.prekeys[sl.SPI] == nil {
		return // the arbitrator's acknowledgement timeout finds another agent
	}
	if o == nil {
		grant, direct, ok := a.grant(action.Session, sl)
		if !ok {
			a.dropPrekey(session.DropPrekey{Node: action.Node, SPI: sl.SPI})
			return
		}
		o = &offer{
			epoch:  sl.Epoch,
			grant:  mka.SignGrant(a.config.Trust.Key, grant),
			prekey: n.prekeys[sl.SPI], share: newShare(), spare: sl.Spare, direct: direct,
		}
		delete(n.prekeys, sl.SPI)
		if a.offers[action.Session] == nil {
			a.offers[action.Session] = make(map[uint8]*offer)
		}
		a.offers[action.Session][sl.Number] = o // in place of an older epoch's, which nobody is told any more
	}
	n.Say(&protocol.Node{Grant: &protocol.Grant{Grant: o.grant, Share: o.share[:], Rule: a.ruleFor(action.Session)}})
}

// dropPrekey gives up one that is granted to nobody, here and at its agent.
func (a *Arbiter) dropPrekey(action session.DropPrekey) {
	if n := a.nodes[action.Node]; n != nil && n.prekeys[action.SPI] != nil {
		delete(n.prekeys, action.SPI)
		n.Say(&protocol.Node{Unused: &protocol.Unused{SPIs: []uint32{action.SPI}}})
	}
}

// grant is the arbiter's statement of one committed slice epoch. One that is
// direct names its agent as the slice's gateway.
func (a *Arbiter) grant(id registry.SessionID, sl registry.Slice) (g mka.Grant, direct, ok bool) {
	a.config.Store.View(func(s *registry.State) {
		live, agent := s.Sessions.Get(id), s.Nodes[sl.Agent]
		if live == nil || agent == nil || live.State != registry.SessionActive {
			return
		}
		direct, ok = s.Policy.Direct, true
		g = mka.Grant{
			Version: mka.Version, Cluster: s.Cluster.ID, Incarnation: a.fence.Incarnation, Term: a.term, Index: sl.Index,
			Session: id, Slice: sl.Number, Epoch: sl.Epoch, Class: sl.Class, Suite: esp.Suite(sl.Suite),
			Weight: sl.Weight, Mode: string(live.Mode), Agent: agent.ID, AgentKey: agent.Key, Boot: sl.Boot, SPI: sl.SPI,
			Gateways: a.gatewaysNamed(s), SessionKey: live.Key, Leases: live.Leases, Policy: live.Policy,
		}
		if direct {
			g.Gateways = agent.Outers()
		}
		copy(g.IdentityHash[:], live.Identity)
		copy(g.HelloHash[:], live.Hello)
	})
	return g, direct, ok
}

// takeOffers is the client's half of acknowledged grants. The share is
// forgotten here: a client that lost it gets a new epoch.
func (a *Arbiter) takeOffers(id registry.SessionID, granted []registry.Slice) []protocol.SliceOffer {
	var out []protocol.SliceOffer
	for _, sl := range granted {
		o := a.offerOf(id, sl.Number, sl.Epoch)
		if o == nil {
			continue
		}
		a.dropOffer(id, sl.Number, sl.Epoch)
		out = append(out, protocol.SliceOffer{
			Grant: o.grant, Prekey: o.prekey, Share: append([]byte(nil), o.share[:]...), Spare: o.spare,
			Inside: a.insideOf(sl.Agent), Direct: o.direct,
		})
	}
	return out
}

// offerOf is the offer of one slice epoch; nil when there is none.
func (a *Arbiter) offerOf(id registry.SessionID, number uint8, epoch uint32) *offer {
	if o := a.offers[id][number]; o != nil && o.epoch == epoch {
		return o
	}
	return nil
}

func (a *Arbiter) dropOffer(id registry.SessionID, number uint8, epoch uint32) {
	if a.offerOf(id, number, epoch) == nil {
		return
	}
	if delete(a.offers[id], number); len(a.offers[id]) == 0 {
		delete(a.offers, id)
	}
}

// insideOf is a member's own address on the inside network.
func (a *Arbiter) insideOf(id identity.NodeID) (inside netip.Addr) {
	a.config.Store.View(func(s *registry.State) {
		if n := s.Nodes[id]; n != nil {
			inside = n.Inside
		}
	})
	return inside
}

// revoke takes a slice epoch back from its agent, and from its client.
func (a *Arbiter) revoke(action session.RevokeSlice) {
	a.dropOffer(action.Session, action.Number, action.Epoch)
	ref := protocol.SliceRef{Session: action.Session, Number: action.Number, Epoch: action.Epoch}
	if n := a.nodes[action.Node]; n != nil {
		n.Say(&protocol.Node{Revoke: &protocol.Revoke{Slice: ref, Linger: Linger}})
	}
	if c := a.served[action.Session]; c != nil {
		c.Say(&protocol.Client{Drop: &ref})
	}
}
