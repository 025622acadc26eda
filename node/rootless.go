package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/netstack"
	"github.com/meshcrypt/meshcrypt/node/order"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/proxy"
	"github.com/meshcrypt/meshcrypt/node/resolver"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// ProxyConfig is the port at which programs of a client without rights enter
// the tunnel.
type ProxyConfig struct {
	Listen      netip.AddrPort
	Credentials *proxy.Credentials // nil lets everybody in who reaches the port
}

// rootless is a stack of this process around a client, and a proxy into it.
// Nothing of the host changes, so nothing has to be put back.
type rootless struct {
	config   ConnectConfig
	stack    *netstack.Stack
	ordered  *order.Device // the stack, as the engine writes to it
	listener net.Listener
	server   *proxy.Server // nil before the first welcome; owned by the client's loop
	names    atomic.Pointer[resolver.Resolver]
}

// openRootless takes the port at once: what can fail fails before the login.
func openRootless(config ConnectConfig) (userSide, error) {
	listener, err := net.Listen("tcp", config.Proxy.Listen.String())
	if err != nil {
		return nil, fmt.Errorf("%w (does another client run? choose another address with --proxy)", err)
	}
	stack, err := netstack.New(workers(), pmtu.MinMTU)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &rootless{config: config, stack: stack, ordered: order.Wrap(stack), listener: listener}, nil
}

func (r *rootless) device() tun.Device { return r.ordered }
func (r *rootless) uso() bool          { return false }
func (r *rootless) mark() int          { return 0 } // nothing leads back into the tunnel

// Up implements client.Host.
func (r *rootless) Up(leases []netip.Addr, update protocol.Update) error {
	if err := r.stack.Configure(leases, update.Prefixes); err != nil {
		return err
	}
	r.learnNames(update)
	if r.server == nil {
		r.server = proxy.Start(proxy.Config{
			Listener: r.listener, Network: tunnelled{r}, Credentials: r.config.Proxy.Credentials, Log: r.config.Log,
		})
	}
	return nil
}

// SetMTU implements client.Host.
func (r *rootless) SetMTU(mtu int) error { return r.stack.SetMTU(mtu) }

// faults implements userSide: no setting of the host is in the way of a stack of
// this process.
func (r *rootless) faults() []string { return nil }

// putBack implements userSide.
func (r *rootless) putBack() map[string]uint64 { return nil }

// up implements userSide: the host is never changed.
func (r *rootless) up() bool { return false }

// local and roamed implement userSide: nothing of the host is hidden.
func (r *rootless) local() []control.ClientLocal { return nil }
func (r *rootless) roamed()                      {}

func (r *rootless) close(bool) error {
	if r.server == nil {
		return r.listener.Close()
	}
	err := r.server.Close()
	if full, bad := r.stack.Dropped(); full+bad > 0 {
		r.config.Log.Debug("netstack: packets dropped", "queue_full", full, "malformed", bad)
	}
	return err
}

// learnNames has names resolved through the tunnel, by the servers that the
// mesh pushed and no others.
func (r *rootless) learnNames(update protocol.Update) {
	names := &resolver.Resolver{Servers: update.DNS, Search: update.Search, Dial: r.dial}
	if old := r.names.Swap(names); old != nil && slices.Equal(old.Servers, names.Servers) {
		return
	}
	if len(names.Servers) == 0 {
		r.config.Log.Info("the mesh pushed no DNS server: the proxy takes addresses only")
	}
	for _, server := range names.Servers {
		if !r.stack.Reaches(server) {
			r.config.Log.Warn("a pushed DNS server is in no pushed network", "server", server)
		}
	}
}

// dial is the resolver's way to its servers.
func (r *rootless) dial(ctx context.Context, network string, to netip.AddrPort) (net.Conn, error) {
	if network == "udp" {
		return connected(r.stack.DialUDP(to))
	}
	return connected(r.stack.DialTCP(ctx, to))
}

// connected keeps a nil pointer from becoming a connection.
func connected[C net.Conn](c C, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// tunnelled is the proxy's way into the stack.
type tunnelled struct{ *rootless }

func (t tunnelled) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return connected(t.stack.DialTCP(ctx, to))
}

func (t tunnelled) OpenUDP(v6 bool) (net.PacketConn, error) {
	socket, err := t.stack.OpenUDP(v6)
	if err != nil {
		return nil, err
	}
	return socket, nil
}

func (t tunnelled) Reaches(addr netip.Addr) bool { return t.stack.Reaches(addr) }

func (t tunnelled) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	all, err := t.names.Load().Lookup(ctx, name)
	switch {
	case errors.Is(err, resolver.ErrNoServers):
		err = proxy.ErrNoNames
	case errors.Is(err, resolver.ErrNotFound), errors.Is(err, resolver.ErrName):
		err = fmt.Errorf("%w: %w", proxy.ErrUnknownName, err)
	}
	return all, err
}
