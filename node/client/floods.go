package client

import (
	"slices"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// confiner is a socket that can keep datagrams out.
type confiner interface{ Confine(link.Window) error }

// superviseFloods keeps what is sent again to a slice, or is forged, out of its
// queue.
func (c *Client) superviseFloods() {
	for _, window := range c.config.Engine.Flooded() {
		for _, s := range c.slices {
			socket, ok := s.socket.(confiner)
			if !ok || !slices.ContainsFunc(s.pairs(), func(p *dataplane.Pair) bool { return p.In.SPI() == window.SPI }) {
				continue
			}
			if err := socket.Confine(window); err != nil {
				c.config.Log.Warn("a flood is not kept out", "error", err)
			}
		}
	}
}

// refusals count Confirms that changed nothing.
type refusals struct{ full, useless, control atomic.Uint64 }

// addTo puts them beside the reasons of the packet path.
func (r *refusals) addTo(dropped map[string]uint64) {
	for reason, n := range map[string]uint64{"confirm-queue-full": r.full.Load(), "confirm-refused": r.useless.Load(), "control-full": r.control.Load()} {
		if n > 0 {
			dropped[reason] = n
		}
	}
}
