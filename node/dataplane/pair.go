package dataplane

import (
	"errors"
	"net/netip"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/admit"
)

// Errors of SendControl.
var (
	ErrNoPath  = errors.New("dataplane: the peer's address is not known yet")
	ErrTooLong = errors.New("dataplane: control message exceeds limit")
)

// Pair is one slice at this end: the SA in, the SA out and the way to the
// peer. The exported fields are set before the pair is in a table and stay.
type Pair struct {
	// In opens what the peer sealed. Nil: granted, but its Accept has not
	// come, so packets are early.
	In *esp.Inbound
	// Out seals for the peer.
	Out *esp.Outbound
	// Ends is the clock's value from which on neither SA is used, whatever the
	// owner is doing then; 0 leaves the end to the owner.
	Ends int64
	// Leases is the session's inner addresses.
	Leases []netip.Addr
	// Agent says that this end is the agent: the lease is at the far end, and
	// the path follows the peer.
	Agent bool
	// Node is the node at the other end of an SA between two; 0 is a client.
	Node identity.Index
	// Socket sends to the peer, unless SetWay named another.
	Socket link.Socket
	// Control takes authenticated control messages. It must not block, and
	// must not keep the payload.
	Control func(payload []byte)

	way       atomic.Pointer[way]
	rule      atomic.Pointer[admit.Rule] // see admitted.go
	refused   atomic.Uint64              // packets by it
	trod      atomic.Pointer[trail]      // the ways there are beside, see roam.go
	tried     atomic.Pointer[answer]     // the last one to Try
	onward    [2]atomic.Pointer[Onward]  // by family
	sizes     atomic.Uint32              // MTU 16, limit 16, see oversize.go
	lastHeard atomic.Int64
	lastSent  atomic.Int64
	in, out   flow
	attack    attack
}

// Onward is where an agent hands opened packets on to instead of its own TUN:
// the session's egress.
type Onward struct {
	// SPI is that of the slice's grant, by which the egress knows the slice.
	SPI    uint32
	Path   link.Path
	Socket link.Socket
	// Sealed hands on under Link, the SA pair with that node; nil: there is none yet.
	Sealed bool
	Link   *Pair
}

// flow counts one direction of a pair.
type flow struct{ packets, bytes atomic.Uint64 }

func (f *flow) add(packets, bytes int) {
	f.packets.Add(uint64(packets))
	f.bytes.Add(uint64(bytes))
}

// PairCounters are inner packets and their bytes. Refused are those that the
// pair's rule does not admit, both ways; they are in no other count.
type PairCounters struct{ PacketsIn, BytesIn, PacketsOut, BytesOut, Refused uint64 }

// Counters returns what the pair carried so far.
func (p *Pair) Counters() PairCounters {
	return PairCounters{
		p.in.packets.Load(), p.in.bytes.Load(), p.out.packets.Load(), p.out.bytes.Load(), p.refused.Load(),
	}
}

// way is how packets reach the peer: out of which socket, and along which path.
type way struct {
	socket link.Socket
	path   link.Path
}

// Path is where packets for the peer go; false when nothing is known.
func (p *Pair) Path() (link.Path, bool) {
	if w := p.way.Load(); w != nil {
		return w.path, true
	}
	return link.Path{}, false
}

// Proven reports whether packets for the peer go to an address where it has shown
// that it is, or that was given.
func (p *Pair) Proven(remote netip.AddrPort) bool {
	w := p.way.Load()
	return w.sure() && w.path.Remote == remote
}

// SetPath sets the way to the peer out of the pair's own socket: the gateway
// in use at a client, a first guess at an agent.
func (p *Pair) SetPath(path link.Path) { p.SetWay(p.Socket, path) }

// SetWay sets the way to the peer out of a certain socket.
func (p *Pair) SetWay(socket link.Socket, path link.Path) { p.way.Store(&way{socket, path}) }

// SetOnward makes opened packets of one family go to the session's egress; nil
// to the TUN.
func (p *Pair) SetOnward(v6 bool, o *Onward) { p.onward[familyIndex(v6)].Store(o) }

// Onward is where opened packets of one family go; nil is the TUN.
func (p *Pair) Onward(v6 bool) *Onward { return p.onward[familyIndex(v6)].Load() }

func familyIndex(v6 bool) int {
	if v6 {
		return 1
	}
	return 0
}

// LastHeard is the clock's value when the last authenticated packet came.
func (p *Pair) LastHeard() int64 { return p.lastHeard.Load() }

// LastSent is the clock's value when the last inner packet went out.
func (p *Pair) LastSent() int64 { return p.lastSent.Load() }

// Send sends a datagram to the peer as it is.
func (p *Pair) Send(datagram []byte) error {
	w := p.way.Load()
	if w == nil || w.socket == nil {
		return ErrNoPath
	}
	return w.socket.Send(datagram, len(datagram), w.path)
}

// SendControl seals a control message as a dummy packet (RFC 4303 2.6) and
// sends it to the peer. It is safe for concurrent use.
func (p *Pair) SendControl(payload []byte) error { return p.sendControl(payload, MaxControl) }

// SendPadded is SendControl for a message as large as the packets whose way it
// tests. link.ErrTooBig says that this host's own link does not take it.
func (p *Pair) SendPadded(payload []byte) error { return p.sendControl(payload, MaxPadded) }

func (p *Pair) sendControl(payload []byte, most int) error {
	if len(payload) > most {
		return ErrTooLong
	}
	return p.sendAlong(p.way.Load(), payload)
}

// sendAlong sends a control message along a way that need not be the pair's own.
func (p *Pair) sendAlong(w *way, payload []byte) error {
	if w == nil || w.socket == nil || p.Out == nil {
		return ErrNoPath
	}
	counter, err := p.Out.Reserve(1, len(payload))
	if err != nil {
		return err
	}
	return p.seal(w, payload, counter)
}

// seal sends a control message under a counter that was reserved for it.
func (p *Pair) seal(w *way, payload []byte, counter uint64) error {
	frame := make([]byte, esp.SealedLen(len(payload)))
	copy(frame[esp.PayloadOffset:], payload)
	frame = p.Out.Seal(frame, len(payload), esp.NextDummy, counter)
	return w.socket.Send(frame, len(frame), w.path)
}

// Over reports whether the time of the pair's keys has ended.
func (p *Pair) Over(now int64) bool { return p.Ends != 0 && now >= p.Ends }

// leased reports whether the address is one of the session's own.
func (p *Pair) leased(a netip.Addr) bool {
	for _, l := range p.Leases {
		if l == a {
			return true
		}
	}
	return false
}

// admitIn judges an opened packet: at an agent its source is the session's
// lease (I7) and its destination what the client may reach, at a client its
// destination is the lease.
func (p *Pair) admitIn(in *inner) Reason {
	switch {
	case !p.Agent && !p.leased(in.dst):
		return DropDestination
	case !p.Agent:
		return Pass
	case !p.leased(in.src):
		return DropSource
	}
	return p.reaches(in)
}

// admitOut judges n packets that begin alike before they are sealed, the mirror
// of admitIn.
func (p *Pair) admitOut(in *inner, packet []byte, n int) Reason {
	switch {
	case !p.Agent && !p.leased(in.src):
		return DropSource
	case !p.Agent:
		return Pass
	case !p.leased(in.dst):
		return DropDestination
	}
	return p.reachedBy(in, packet, n)
}
