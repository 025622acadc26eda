// Package netstack is an IP stack in this process, for hosts that have no TUN
// device to give: towards the packet engine it is a tun.Device, towards its
// user it dials, or, at the other end of the tunnel, answers. TCP leaves and
// enters it in super-packets, like a kernel's.
//
// It owns the stack's addresses and routes. A client's are its leases and the
// pushed prefixes, so that nothing else can be reached by it. It does not own
// names, proxies, who may use it, or which flows may begin (node/masquerade).
package netstack

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

// Errors of this package.
var (
	ErrConfig = errors.New("netstack: invalid configuration")
	// ErrOutside is a destination that no pushed prefix has. It is refused,
	// for there is no other way out of this stack.
	ErrOutside = errors.New("netstack: not in a network that the mesh offers")
)

// nic is the number of the only interface.
const nic tcpip.NICID = 1

// Stack is the IP stack and its device. All methods are safe for concurrent use.
type Stack struct {
	stack *stack.Stack
	link  *link
	close sync.Once

	mu       sync.RWMutex // protects the fields below
	leases   []netip.Addr
	prefixes []netip.Prefix
}

var _ tun.Device = (*Stack)(nil)

// New makes a stack without addresses, of which the packet engine serves the
// given number of queues.
func New(queues, mtu int) (*Stack, error) {
	if queues < 1 || queues > MaxQueues || mtu < tun.MinMTU || mtu > tun.MaxPacket {
		return nil, fmt.Errorf("%w: %d queues, MTU %d", ErrConfig, queues, mtu)
	}
	s := &Stack{
		stack: stack.New(stack.Options{
			NetworkProtocols: []stack.NetworkProtocolFactory{
				// A mesh may offer loopback addresses of its own hosts, and this
				// stack has no services that they could be taken for.
				ipv4.NewProtocolWithOptions(ipv4.Options{AllowExternalLoopbackTraffic: true}),
				ipv6.NewProtocolWithOptions(ipv6.Options{
					// Leases are given, not found: no address detection, no routers.
					DADConfigs: stack.DADConfigurations{}, AllowExternalLoopbackTraffic: true,
				}),
			},
			TransportProtocols: []stack.TransportProtocolFactory{
				tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
			},
		}),
		link: newLink(queues, mtu),
	}
	// RACK sends one segment per tenth of a second again when much is lost at
	// once, as with an agent that dies; recovery by SACK alone (RFC 6675) does not.
	recovery := tcpip.TCPRecovery(0)
	err := errors.Join(
		s.tune(&recovery),
		s.tune(&tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: firstBuffer, Max: MaxBuffer}),
		s.tune(&tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: firstBuffer, Max: MaxBuffer}),
		failure("make the interface", s.stack.CreateNIC(nic, s.link)))
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Stack) tune(option tcpip.SettableTransportProtocolOption) error {
	return failure("tune TCP", s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, option))
}

// Name implements tun.Device.
func (s *Stack) Name() string { return "netstack" }

// Queues implements tun.Device.
func (s *Stack) Queues() []tun.Queue {
	queues := make([]tun.Queue, len(s.link.queues))
	for i, q := range s.link.queues {
		queues[i] = q
	}
	return queues
}

// SetMTU changes the largest packet that new connections send.
func (s *Stack) SetMTU(mtu int) error {
	if mtu < tun.MinMTU || mtu > tun.MaxPacket {
		return fmt.Errorf("%w: MTU %d, %d to %d are possible", ErrConfig, mtu, tun.MinMTU, tun.MaxPacket)
	}
	return failure("set the MTU", s.stack.SetNICMTU(nic, uint32(mtu)))
}

// Close implements tun.Device: it ends all connections too.
func (s *Stack) Close() error {
	s.close.Do(func() {
		s.link.end()
		s.stack.Destroy()
	})
	return nil
}

// Dropped counts packets that found a full queue, or that the stack could not
// take: of no known version, or with a wrong checksum.
func (s *Stack) Dropped() (full, bad uint64) { return s.link.full.Load(), s.link.bad.Load() }

// Configure replaces addresses and routes.
func (s *Stack) Configure(leases []netip.Addr, prefixes []netip.Prefix) error {
	if len(leases) > MaxLeases || len(prefixes) > MaxPrefixes {
		return fmt.Errorf("%w: %d leases, %d prefixes, at most %d and %d", ErrConfig, len(leases), len(prefixes), MaxLeases, MaxPrefixes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.leases {
		if !slices.Contains(leases, old) {
			if err := failure("remove "+old.String(), s.stack.RemoveAddress(nic, tcpip.AddrFromSlice(old.AsSlice()))); err != nil {
				return err
			}
		}
	}
	for _, lease := range leases {
		if !slices.Contains(s.leases, lease) {
			if err := failure("add "+lease.String(), s.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
				Protocol: protocolOf(lease), AddressWithPrefix: tcpip.AddrFromSlice(lease.AsSlice()).WithPrefix(),
			}, stack.AddressProperties{})); err != nil {
				return err
			}
		}
	}
	s.leases, s.prefixes = slices.Clone(leases), slices.Clone(prefixes)
	s.stack.SetRouteTable(routes(prefixes))
	return nil
}

func routes(prefixes []netip.Prefix) (table []tcpip.Route) {
	for _, p := range prefixes {
		table = append(table, tcpip.Route{NIC: nic, Destination: tcpip.AddressWithPrefix{
			Address: tcpip.AddrFromSlice(p.Masked().Addr().AsSlice()), PrefixLen: p.Bits(),
		}.Subnet()})
	}
	return table
}

// Reaches reports whether a pushed prefix has the address.
func (s *Stack) Reaches(addr netip.Addr) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.ContainsFunc(s.prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

func protocolOf(addr netip.Addr) tcpip.NetworkProtocolNumber {
	if addr.Is4() {
		return ipv4.ProtocolNumber
	}
	return ipv6.ProtocolNumber
}
