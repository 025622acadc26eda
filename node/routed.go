package node

import (
	"net/netip"
	"path/filepath"
	"slices"

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
	host   *host.Client // nil before the first welcome; owned by the client's loop
}

func openRouted(config ConnectConfig) (userSide, error) {
	device, err := tun.Open(config.TUN, workers(), pmtu.MinMTU)
	if err != nil {
		return nil, err
	}
	return &routed{config: config, tun: device}, nil
}

func (r *routed) device() tun.Device { return r.tun }
func (r *routed) uso() bool          { return true }
func (r *routed) mark() int          { return host.DefaultMark }

// Up implements client.Host: first the blackholes, then address and routes.
func (r *routed) Up(leases []netip.Addr, update protocol.Update) (err error) {
	if r.host != nil {
		return r.host.Update(update.Prefixes, nil)
	}
	if len(update.DNS) > 0 {
		r.config.Log.Info("the mesh offers DNS; this host's resolver is left as it is", "servers", update.DNS, "search", update.Search)
	}
	if r.host, err = host.PrepareClient(host.ClientConfig{
		TUN: r.config.TUN, Leases: leases, Prefixes: update.Prefixes,
		Mark: host.DefaultMark, Table: host.DefaultTable,
		StateFile: filepath.Join(r.config.RunDir, ClientState),
	}); err != nil {
		return err
	}
	if !host.HasIPv6() && slices.ContainsFunc(leases, netip.Addr.Is6) {
		r.config.Log.Warn("IPv6 is switched off on this host: what the mesh offers of it is not used")
	}
	if overlaps, err := r.host.Overlaps(); err == nil {
		for _, o := range overlaps {
			r.config.Log.Warn("a pushed network hides a local one", "pushed", o.Prefix, "local", o.Local, "device", o.Device)
		}
	}
	return r.host.Up()
}

// SetMTU implements client.Host.
func (r *routed) SetMTU(mtu int) error { return host.SetMTU(r.tun.Name(), mtu) }

// close gives the host back after a clean stop; a killed client leaves its
// blackhole routes, so that nothing follows the default route out.
func (r *routed) close() error {
	if r.host == nil {
		return nil
	}
	return r.host.Close()
}
