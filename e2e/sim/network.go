package sim

import (
	"net/netip"
	"time"
)

// quality is what a way does to what is sent over it.
type quality struct {
	loss          float64
	least, jitter time.Duration
}

// way is one direction between two hosts.
type way struct{ from, to int }

// network is what lies between the hosts. It belongs to the driver.
type network struct {
	world     *World
	quality   quality
	cut       map[way]int // how many faults close it
	hosts     map[netip.Addr]*host
	sockets   map[netip.AddrPort]*socket
	listeners map[netip.AddrPort]*listener
	serial    int // connections so far
}

func newNetwork(w *World) *network {
	return &network{
		world: w, quality: quality{least: 200 * time.Microsecond, jitter: time.Millisecond}, cut: make(map[way]int),
		hosts: make(map[netip.Addr]*host), sockets: make(map[netip.AddrPort]*socket), listeners: make(map[netip.AddrPort]*listener),
	}
}

// open reports whether anything passes from one host to another.
func (n *network) open(from, to *host) bool {
	return !from.off && !to.off && (from == to || n.cut[way{from.number, to.number}] == 0)
}

// takes is how long the next packet travels.
func (n *network) takes(from, to *host) time.Duration {
	if from == to {
		return n.world.between(5*time.Microsecond, 20*time.Microsecond)
	}
	return n.world.between(n.quality.least, n.quality.least+n.quality.jitter)
}

// loses reports whether the next packet is lost.
func (n *network) loses(from, to *host) bool { return from != to && n.world.chance(n.quality.loss) }

// hostOf is the host with an address; nil where there is none.
func (n *network) hostOf(a netip.Addr) *host { return n.hosts[a] }

// close adds a fault to ways, or takes one away.
func (n *network) close(ways []way, by int) {
	for _, w := range ways {
		n.cut[w] += by
	}
}
