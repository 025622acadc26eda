package netstack

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// UDP is a UDP socket of this stack.
type UDP = gonet.UDPConn

// TCP is a TCP connection of this stack.
type TCP struct {
	*gonet.TCPConn
	endpoint tcpip.Endpoint
}

// SetLinger is that of net.TCPConn: with 0 a Close resets the connection.
func (t *TCP) SetLinger(seconds int) error {
	t.endpoint.SocketOptions().SetLinger(tcpip.LingerOption{
		Enabled: seconds >= 0, Timeout: time.Duration(max(seconds, 0)) * time.Second,
	})
	return nil
}

// DialTCP connects to a destination behind the mesh. Its error wraps
// ErrOutside, or the errno that a kernel would have given.
func (s *Stack) DialTCP(ctx context.Context, to netip.AddrPort) (*TCP, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if !s.Reaches(to.Addr()) {
		return nil, fmt.Errorf("%w: %v", ErrOutside, to.Addr())
	}
	wq := new(waiter.Queue)
	ep, failed := s.stack.NewEndpoint(tcp.ProtocolNumber, protocolOf(to.Addr()), wq)
	if failed != nil {
		return nil, failure("connect to "+to.String(), failed)
	}
	if err := connect(ctx, ep, wq, to); err != nil {
		ep.Abort() // a SYN that is under way has nobody to answer to
		return nil, err
	}
	return &TCP{gonet.NewTCPConn(wq, ep), ep}, nil
}

// connect waits for the handshake's end.
func connect(ctx context.Context, ep tcpip.Endpoint, wq *waiter.Queue, to netip.AddrPort) error {
	entry, done := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&entry)
	defer wq.EventUnregister(&entry)
	failed := ep.Connect(address(to))
	if _, started := failed.(*tcpip.ErrConnectStarted); started {
		select {
		case <-ctx.Done():
			return fmt.Errorf("netstack: connect to %v: %w", to, ctx.Err())
		case <-done:
		}
		failed = ep.LastError()
	}
	return failure("connect to "+to.String(), failed)
}

// DialUDP makes a socket that talks to one destination.
func (s *Stack) DialUDP(to netip.AddrPort) (*UDP, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if !s.Reaches(to.Addr()) {
		return nil, fmt.Errorf("%w: %v", ErrOutside, to.Addr())
	}
	remote := address(to)
	return gonet.DialUDP(s.stack, nil, &remote, protocolOf(to.Addr()))
}

// OpenUDP makes a socket that talks to any destination of one family.
func (s *Stack) OpenUDP(v6 bool) (*UDP, error) {
	protocol := ipv4.ProtocolNumber
	if v6 {
		protocol = ipv6.ProtocolNumber
	}
	return gonet.DialUDP(s.stack, &tcpip.FullAddress{NIC: nic}, nil, protocol)
}

func address(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}

// failure gives the stack's error the errno that others look for.
func failure(what string, err tcpip.Error) error {
	var cause error
	switch err.(type) {
	case nil:
		return nil
	case *tcpip.ErrConnectionRefused:
		cause = unix.ECONNREFUSED
	case *tcpip.ErrConnectionReset, *tcpip.ErrConnectionAborted, *tcpip.ErrAborted:
		cause = unix.ECONNRESET
	case *tcpip.ErrTimeout:
		cause = unix.ETIMEDOUT
	case *tcpip.ErrHostUnreachable, *tcpip.ErrHostDown:
		cause = unix.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable, *tcpip.ErrNoNet:
		cause = unix.ENETUNREACH
	case *tcpip.ErrNoPortAvailable:
		cause = unix.EADDRNOTAVAIL
	default:
		return fmt.Errorf("netstack: %s: %s", what, err)
	}
	return fmt.Errorf("netstack: %s: %w", what, cause)
}
