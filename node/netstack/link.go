package netstack

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link is the stack's interface: what the stack sends waits in a queue for the
// packet engine, what the engine writes is delivered by the writer itself.
type link struct {
	queues     []*queue
	mtu        atomic.Uint32
	dispatcher atomic.Pointer[stack.NetworkDispatcher]
	full, bad  atomic.Uint64 // dropped
}

var (
	_ stack.LinkEndpoint = (*link)(nil)
	_ stack.GSOEndpoint  = (*link)(nil)
)

func newLink(queues, mtu int) *link {
	l := &link{}
	l.mtu.Store(uint32(mtu))
	for range queues {
		l.queues = append(l.queues, newQueue(l))
	}
	return l
}

// end wakes every reader for the last time.
func (l *link) end() {
	for _, q := range l.queues {
		q.end()
	}
}

// WritePackets takes what the stack sends; one flow stays on one queue. A full
// queue drops, and the sender's TCP slows down.
func (l *link) WritePackets(packets stack.PacketBufferList) (sent int, err tcpip.Error) {
	for _, p := range packets.AsSlice() {
		if !l.queues[int(p.Hash)%len(l.queues)].push(p) {
			l.full.Add(1)
			if sent == 0 {
				err = &tcpip.ErrNoBufferSpace{}
			}
			return sent, err
		}
		sent++
	}
	return sent, nil
}

// send queues a packet that did not come from the stack.
func (l *link) send(packet []byte) {
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
	defer p.DecRef()
	if !l.queues[0].push(p) {
		l.full.Add(1)
	}
}

// deliver hands one packet to the stack.
func (l *link) deliver(p *stack.PacketBuffer) {
	if d := l.dispatcher.Load(); d != nil && *d != nil {
		(*d).DeliverNetworkPacket(p.NetworkProtocolNumber, p)
	}
}

// Attach implements stack.LinkEndpoint.
func (l *link) Attach(d stack.NetworkDispatcher) { l.dispatcher.Store(&d) }

// IsAttached implements stack.LinkEndpoint.
func (l *link) IsAttached() bool { d := l.dispatcher.Load(); return d != nil && *d != nil }

// MTU implements stack.LinkEndpoint.
func (l *link) MTU() uint32 { return l.mtu.Load() }

// SetMTU implements stack.LinkEndpoint.
func (l *link) SetMTU(mtu uint32) { l.mtu.Store(mtu) }

// Capabilities implements stack.LinkEndpoint. Checksums of what comes in are
// verified by Write, or were by the engine when it joined segments.
func (l *link) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityRXChecksumOffload
}

// SupportedGSO implements stack.GSOEndpoint: the engine cuts super-packets.
func (l *link) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }

// GSOMaxSize implements stack.GSOEndpoint.
func (l *link) GSOMaxSize() uint32 { return maxSegment }

// The rest is what an interface without a link layer has to say.

func (l *link) MaxHeaderLength() uint16                 { return 0 }
func (l *link) LinkAddress() tcpip.LinkAddress          { return "" }
func (l *link) SetLinkAddress(tcpip.LinkAddress)        {}
func (l *link) Wait()                                   {}
func (l *link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }
func (l *link) AddHeader(*stack.PacketBuffer)           {}
func (l *link) ParseHeader(*stack.PacketBuffer) bool    { return true }
func (l *link) Close()                                  {}
func (l *link) SetOnCloseAction(func())                 {}
