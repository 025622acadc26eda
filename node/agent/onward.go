package agent

import (
	"net/netip"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// What an agent has opened goes straight to its destination where the path
// test proves that this host forwards it; otherwise, and always where the mesh
// masquerades, to the egress of the lease, so that one flow has one source
// address (design 6).

// steer points a slice's SAs the way that its opened packets go.
func (a *Agent) steer(s *slice) {
	for _, lease := range s.grant.Leases {
		onward := a.onward(s, lease)
		for _, p := range s.pairs() {
			p.SetOnward(lease.Is6(), onward)
		}
	}
}

// onward is the egress to hand on to, nil for this host's own TUN.
func (a *Agent) onward(s *slice, lease netip.Addr) *dataplane.Onward {
	o := &a.tables.outlook
	for i := range o.onward {
		w := &o.onward[i]
		if !w.ranges[0].Contains(lease) && !w.ranges[1].Contains(lease) {
			continue
		}
		if w.to == 0 {
			return nil
		}
		return &dataplane.Onward{
			SPI: s.grant.SPI, Socket: a.config.Inside, Path: link.Path{Remote: netip.AddrPortFrom(w.inside, a.config.InsidePort)},
			Sealed: o.sealed, Link: w.link,
		}
	}
	return nil
}

// egressOf is the node where replies to a part's leases arrive now, as this node sees
// it: the second as soon as the egress is silent and the second is not, or the
// second relieved it. The arbiter's confirmation comes later.
func (a *Agent) egressOf(p *part) protocol.NodeRow {
	egress, second := a.view.nodeByID(p.row.Egress), a.view.nodeByID(p.row.Second)
	if p.taken || p.yielded || p.lapsed || a.saysBroken(egress) && a.saysTaken(second) {
		return second
	}
	if second.Index != 0 && a.gone(egress, a.config.Now()) && a.answers(second.Index) {
		return second
	}
	return egress
}

// saysTaken reports whether a node answers and says that it relieved another.
func (a *Agent) saysTaken(n protocol.NodeRow) bool {
	p := a.probes.peers[n.Index]
	return p != nil && p.answers() && p.says&probe.SaysTaken != 0
}

// answers reports whether a node is heard. This one is not: what it takes over
// it decides elsewhere.
func (a *Agent) answers(index identity.Index) bool {
	p := a.probes.peers[index]
	return p != nil && p.answers()
}
