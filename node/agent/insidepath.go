package agent

import (
	"errors"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// What is handed on may pass routers, and links that are narrower than this
// host's own. It gets there, in fragments, and slowly. So nodes measure the way
// to those they probe, by padded probes that are answered at the same size, and
// tell clients to send no more than one piece takes.

// superviseHandOn notes what the inside network takes in one piece when packets
// are handed on there.
func (a *Agent) superviseHandOn() {
	most := 0
	if mtu := a.config.InsideMTU(); mtu > 0 && len(a.view.nodes) > 1 {
		for _, p := range a.probes.peers {
			mtu = min(mtu, p.takes(mtu, a.config.Inside.LocalAddr().Addr()))
		}
		most = max(pmtu.MinMTU, mtu-dataplane.HandOnOverhead(a.config.Inside.LocalAddr().Addr(), a.sealed()))
	}
	a.handOnMost.Store(int32(min(most, probe.MaxPadded)))
}

// takes is the largest packet of IP that the way to a peer is known to carry
// whole, or what this host's own link does where nothing was measured.
func (p *peer) takes(own int, from netip.Addr) int {
	if p.way == nil || !p.way.Measured() {
		return own
	}
	return esp.SealedLen(p.way.Size()) + dataplane.DatagramOverhead(from)
}

// measureWay sends the padded probes that are due to one peer.
func (a *Agent) measureWay(row protocol.NodeRow, now time.Duration) (asked bool) {
	p := a.probes.peers[row.Index]
	if a.config.Whole == nil || !p.answers() {
		return false
	}
	if p.way == nil {
		p.way = pmtu.New(row.Inside.Is6())
	}
	for _, size := range p.way.Step(pmtu.Tick{Now: now, Heard: p.heardAt, Patience: WayPatience, Active: true}) {
		m := probe.Node{
			Type: probe.TypeNode, From: a.config.Index, Sequence: a.probes.sequence, Says: a.says(row),
			Size: esp.SealedLen(size), // as package pmtu counts
		}
		p.ask(m, now)
		b := m.Marshal(a.view.key)
		if errors.Is(a.config.Whole.Send(b, len(b), link.Path{Remote: a.insideOf(row)}), link.ErrTooBig) {
			p.way.Refuse(size)
		} else if p.way.Settled() && size == p.way.Size() {
			asked = true
		}
	}
	return asked
}

// passed notes that a padded probe came back.
func (p *peer) passed(datagram int, now time.Duration) {
	if p.way != nil && datagram > probe.NodeLen {
		p.way.Pass(datagram-(esp.SealedLen(2)-2), now)
	}
}
