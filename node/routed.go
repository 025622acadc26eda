package node

import (
	"errors"
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"

	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/host"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// ClientState is the file in the run directory in which a client notes what it
// changed on this host, while it is changed.
const ClientState = "client-host.json"

// routed is the host's stack around a client: a TUN, and routes into it.
type routed struct {
	config ConnectConfig
	tun    tun.Device
	lost   func(error)                 // hears that the TUN was removed
	host   atomic.Pointer[host.Client] // nil before the first welcome
	around around
}

func openRouted(config ConnectConfig, lost func(error)) (userSide, error) {
	device, err := tun.Open(config.TUN, workers(), pmtu.MinMTU)
	if err != nil {
		return nil, err
	}
	return &routed{config: config, tun: device, lost: lost, around: around{config: config}}, nil
}

func (r *routed) device() tun.Device { return r.tun }
func (r *routed) uso() bool          { return true }
func (r *routed) mark() int          { return host.DefaultMark }

// Up implements client.Host: first the blackholes, then address and routes.
func (r *routed) Up(leases []netip.Addr, update protocol.Update) error {
	return r.around.take(update.Prefixes, func(n host.Neighbourhood) error {
		if h := r.host.Load(); h != nil {
			return h.Update(n.Prefixes, n.Except)
		}
		return r.begin(leases, update, n)
	})
}

// begin makes the host ready for the first time.
func (r *routed) begin(leases []netip.Addr, update protocol.Update, n host.Neighbourhood) error {
	if len(update.DNS) > 0 {
		r.config.Log.Info("the mesh offers DNS; this host's resolver is left as it is", "servers", update.DNS, "search", update.Search)
	}
	prepared, err := host.PrepareClient(host.ClientConfig{
		TUN: r.config.TUN, Leases: leases, Prefixes: n.Prefixes, Except: n.Except,
		Mark: host.DefaultMark, Table: host.DefaultTable,
		StateFile: filepath.Join(r.config.RunDir, ClientState), Lost: r.lost, Log: r.config.Log,
	})
	if err != nil {
		return err
	}
	r.host.Store(prepared)
	if !host.HasIPv6() && slices.ContainsFunc(leases, netip.Addr.Is6) {
		r.config.Log.Warn("IPv6 is switched off on this host: what the mesh offers of it is not used")
	}
	return prepared.Up()
}

// SetMTU implements client.Host.
func (r *routed) SetMTU(mtu int) error { return host.SetMTU(r.tun.Name(), mtu) }

func (r *routed) faults() []string {
	if h := r.host.Load(); h != nil {
		return h.Faults()
	}
	return nil
}

func (r *routed) putBack() map[string]uint64 {
	if h := r.host.Load(); h != nil {
		return h.PutBack()
	}
	return nil
}

// up implements userSide.
func (r *routed) up() bool { return r.host.Load() != nil }

// local implements userSide.
func (r *routed) local() []control.ClientLocal { return r.around.rows() }

// roamed implements userSide: exceptions follow the networks they are of.
func (r *routed) roamed() {
	h := r.host.Load()
	if h == nil {
		return
	}
	err := r.around.again(func(n host.Neighbourhood) error { return h.Update(n.Prefixes, n.Except) })
	if err != nil && !errors.Is(err, host.ErrClosed) {
		r.config.Log.Error("routes beside the tunnel not set", "error", err)
	}
}

// close gives the host back after a clean stop; otherwise, as after a kill, it
// leaves blackhole routes and fence, so that nothing follows the default route out.
func (r *routed) close(leave bool) error {
	h := r.host.Load()
	switch {
	case h == nil:
		return nil
	case leave:
		h.Leave()
		return nil
	}
	return h.Close()
}
