package client

import (
	"slices"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
)

// refuser is a socket that can keep stale datagrams out.
type refuser interface{ Refuse(link.Stale) error }

// superviseReplays keeps what is sent again to a slice out of its queue, once
// its window has passed it.
func (c *Client) superviseReplays() {
	for _, stale := range c.config.Engine.Replayed() {
		for _, s := range c.slices {
			socket, ok := s.socket.(refuser)
			if !ok || !slices.ContainsFunc(s.pairs(), func(p *dataplane.Pair) bool { return p.In.SPI() == stale.SPI }) {
				continue
			}
			if err := socket.Refuse(stale); err != nil {
				c.config.Log.Warn("replayed packets are not kept out", "error", err)
			}
		}
	}
}

// refusals count Confirms that changed nothing.
type refusals struct{ full, useless atomic.Uint64 }

// addTo puts them beside the reasons of the packet path.
func (r *refusals) addTo(dropped map[string]uint64) {
	for reason, n := range map[string]uint64{"confirm-queue-full": r.full.Load(), "confirm-refused": r.useless.Load()} {
		if n > 0 {
			dropped[reason] = n
		}
	}
}
