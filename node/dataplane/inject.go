package dataplane

import "github.com/meshcrypt/meshcrypt/node/tun"

// Inject writes one IP packet of the owner's to the TUN, as if it had just
// been opened: how a node tests whether its host forwards.
func (e *Engine) Inject(packet []byte) error {
	var header [tun.HeaderLen]byte
	return e.queues[0].Write([][]byte{header[:], packet})
}

// Queues is how many workers read the TUN: the size of a session's Spread.
func (e *Engine) Queues() int { return len(e.queues) }
