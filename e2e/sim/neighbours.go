package sim

import (
	"net/netip"
	"time"
)

// Pauses between announcements of an address, as node/host makes them.
const (
	announceFirst = 300 * time.Millisecond
	announceEvery = 1200 * time.Millisecond
)

// announce tells the neighbours whose an address is, over and over while it is held: who
// has it too hears of a rival. It is the driver's.
func (d *daemon) announce(address netip.Addr, again time.Duration) {
	w := d.world
	if !d.alive() || !d.holding[address] {
		d.announces[address] = false
		return
	}
	d.announces[address] = true
	w.after(again, func() { d.announce(address, announceEvery) })
	for _, n := range w.mesh.members {
		if n == d.member || !d.runs() || !w.net.open(d.host, n.host) || w.net.loses(d.host, n.host) {
			continue
		}
		w.after(w.net.takes(d.host, n.host), func() {
			if far := n.daemon; far.runs() && far.holding[address] && w.net.open(d.host, n.host) {
				far.agent.Rival(address)
			}
		})
	}
}
