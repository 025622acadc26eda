package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/meshcrypt/meshcrypt/node/netstack"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/proxy"
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
	listener net.Listener
	server   *proxy.Server // nil before the first welcome; owned by the client's loop
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
	return &rootless{config: config, stack: stack, listener: listener}, nil
}

func (r *rootless) device() tun.Device { return r.stack }
func (r *rootless) uso() bool          { return false }
func (r *rootless) mark() int          { return 0 } // nothing leads back into the tunnel

// Up implements client.Host.
func (r *rootless) Up(leases []netip.Addr, update protocol.Update) error {
	if err := r.stack.Configure(leases, update.Prefixes); err != nil {
		return err
	}
	if r.server == nil {
		r.server = proxy.Start(proxy.Config{
			Listener: r.listener, Network: tunnelled{r.stack}, Credentials: r.config.Proxy.Credentials, Log: r.config.Log,
		})
	}
	return nil
}

// SetMTU implements client.Host.
func (r *rootless) SetMTU(mtu int) error { return r.stack.SetMTU(mtu) }

func (r *rootless) close() error {
	if r.server == nil {
		return r.listener.Close()
	}
	err := r.server.Close()
	if full, bad := r.stack.Dropped(); full+bad > 0 {
		r.config.Log.Debug("netstack: packets dropped", "queue_full", full, "malformed", bad)
	}
	return err
}

// tunnelled is the proxy's way into the stack.
type tunnelled struct{ stack *netstack.Stack }

func (t tunnelled) DialTCP(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	c, err := t.stack.DialTCP(ctx, to)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (t tunnelled) OpenUDP(v6 bool) (net.PacketConn, error) { return t.stack.OpenUDP(v6) }

func (t tunnelled) Reaches(addr netip.Addr) bool { return t.stack.Reaches(addr) }

func (t tunnelled) Lookup(context.Context, string) ([]netip.Addr, error) {
	return nil, proxy.ErrNoNames
}
