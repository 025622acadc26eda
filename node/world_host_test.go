package node

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// soundHost is a device on a host that forwards: the path tests that come out
// of it reach the inside network.
type soundHost struct {
	tun.Device
	test netip.AddrPort // where path tests come from
	lan  link.Socket
}

// Queues implements tun.Device.
func (h soundHost) Queues() []tun.Queue {
	queues := h.Device.Queues()
	for i, q := range queues {
		queues[i] = soundQueue{q, h}
	}
	return queues
}

type soundQueue struct {
	tun.Queue
	host soundHost
}

// Write implements tun.Queue.
func (q soundQueue) Write(pieces [][]byte) error {
	if p := bytes.Join(pieces, nil); len(p) > tun.HeaderLen+28 {
		p = p[tun.HeaderLen:]
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[12:16])), binary.BigEndian.Uint16(p[20:]))
		if from == q.host.test {
			to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[16:20])), binary.BigEndian.Uint16(p[22:]))
			return q.host.lan.Send(p[28:], len(p)-28, link.Path{Remote: to})
		}
	}
	return q.Queue.Write(pieces)
}

// soundly puts a member's device on such a host.
func (w *world) soundly(m *member) tun.Device {
	w.Helper()
	test := netip.AddrPortFrom(registry.PathTestAddress(m.self.Pool[0]), insidePort(m.self))
	if w.lan == nil {
		w.lan = w.listen(test)
	}
	return soundHost{m.device, test, w.lan}
}
