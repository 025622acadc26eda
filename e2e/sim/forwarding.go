package sim

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// forwards is the device of a host that forwards: the path tests that come out of it
// reach the inside network.
type forwards struct {
	tun.Device
	lan *socket // of the address that path tests come from
}

// forward puts a daemon's device on such a host.
func (d *daemon) forward(device tun.Device) tun.Device {
	test := netip.AddrPortFrom(registry.PathTestAddress(pool), insidePort)
	return forwards{device, &socket{process: d.process, local: test, key: "p" + d.name}}
}

// Queues implements tun.Device.
func (h forwards) Queues() []tun.Queue {
	queues := h.Device.Queues()
	for i, q := range queues {
		queues[i] = forwardingQueue{q, h.lan}
	}
	return queues
}

type forwardingQueue struct {
	tun.Queue
	lan *socket
}

// Headers of IPv4 and UDP, together.
const headers = 28

// Write implements tun.Queue.
func (q forwardingQueue) Write(pieces [][]byte) error {
	p := bytes.Join(pieces, nil)
	if len(p) <= tun.HeaderLen+headers {
		return q.Queue.Write(pieces)
	}
	p = p[tun.HeaderLen:]
	if from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), binary.BigEndian.Uint16(p[20:])); from != q.lan.local {
		return q.Queue.Write(pieces)
	}
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), binary.BigEndian.Uint16(p[22:]))
	return q.lan.Send(p[headers:], len(p)-headers, link.Path{Remote: to})
}
