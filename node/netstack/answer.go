package netstack

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A stack may stand at the other end of the tunnel too, where it answers in the
// name of every destination that clients speak to.

// Flow is who began to speak to whom.
type Flow struct{ From, To netip.AddrPort }

// Answerer decides about flows that begin. TCP runs in a goroutine of its own,
// UDP in the packet worker: it must not wait. A datagram for which UDP says no
// is answered with an ICMP error.
type Answerer struct {
	TCP func(*TCPRequest)
	UDP func(*UDPRequest) bool
}

// Answer makes the stack take packets to any address, from now on. Echo
// requests are refused by an ICMP error, for only the destination itself could
// answer them.
func (s *Stack) Answer(a Answerer) error {
	tcps := tcp.NewForwarder(s.stack, 0, MaxUnanswered, func(r *tcp.ForwarderRequest) {
		a.TCP(&TCPRequest{Flow: flowOf(r.ID()), request: r})
	})
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcps.HandlePacket)
	s.stack.SetTransportProtocolHandler(udp.ProtocolNumber, func(id stack.TransportEndpointID, p *stack.PacketBuffer) bool {
		return a.UDP(&UDPRequest{Flow: flowOf(id), stack: s.stack, id: id, packet: p})
	})
	s.stack.SetTransportProtocolHandler(icmp.ProtocolNumber4, s.link.refuseEcho4)
	s.stack.SetTransportProtocolHandler(icmp.ProtocolNumber6, s.link.refuseEcho6)
	s.stack.SetRouteTable(routes([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}))
	if err := failure("take packets to any address", s.stack.SetPromiscuousMode(nic, true)); err != nil {
		return err
	}
	return failure("answer from any address", s.stack.SetSpoofing(nic, true))
}

func flowOf(id stack.TransportEndpointID) Flow {
	return Flow{From: addrPort(id.RemoteAddress, id.RemotePort), To: addrPort(id.LocalAddress, id.LocalPort)}
}

func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return netip.AddrPortFrom(addr, port)
}

// TCPRequest is a connection that was asked for. Exactly one of Accept, Refuse
// and Ignore ends it.
type TCPRequest struct {
	Flow
	request *tcp.ForwarderRequest
}

// Accept shakes hands.
func (r *TCPRequest) Accept() (*TCP, error) {
	defer r.request.Complete(false)
	wq := new(waiter.Queue)
	ep, err := r.request.CreateEndpoint(wq)
	if err != nil {
		return nil, failure("answer "+r.From.String(), err)
	}
	return &TCP{gonet.NewTCPConn(wq, ep), ep}, nil
}

// Refuse answers with a reset.
func (r *TCPRequest) Refuse() { r.request.Complete(true) }

// Ignore does not answer, as a destination that is not there.
func (r *TCPRequest) Ignore() { r.request.Complete(false) }

// UDPRequest is the first datagram of a flow.
type UDPRequest struct {
	Flow
	stack  *stack.Stack
	id     stack.TransportEndpointID
	packet *stack.PacketBuffer
}

// Accept makes the destination's end of the flow; the first datagram is in it.
func (r *UDPRequest) Accept() (*UDP, error) {
	p := r.packet.Clone()
	defer p.DecRef()
	wq := new(waiter.Queue)
	ep, err := udp.NewForwarderRequest(r.stack, r.id, p).CreateEndpoint(wq)
	if err != nil {
		return nil, failure("answer "+r.From.String(), err)
	}
	return gonet.NewUDPConn(wq, ep), nil
}
