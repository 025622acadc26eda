package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/host"
	"github.com/meshcrypt/meshcrypt/node/scheduler"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// ClientSocket is the operator's socket of a running client, in its run directory.
const ClientSocket = "client.sock"

// ConnectConfig is what a client is started with.
type ConnectConfig struct {
	Profile   client.Profile
	User      string                                     // who connects, for status
	Login     func(client.Binding) (client.Login, error) // see PasswordLogin and its siblings
	Bandwidth uint64                                     // bit/s wanted; 0 leaves it to the mesh
	Mode      string                                     // slicing mode wanted; empty leaves it to the mesh
	Shares    string                                     // what slices are to be weighted by; empty: by capacity
	Peer      string                                     // node to reach itself; empty: none
	SprayUDP  bool                                       // one flow of UDP may take several slices
	Suites    []esp.Suite                                // ciphers offered, best first; none: what suits this host
	TUN       string
	DataDir   string // where the id of this device is kept
	// Wishes are what is to be kept out of the tunnel; nothing with Proxy.
	Wishes host.Wishes
	// Proxy, unless nil, replaces TUN and routes, and needs no rights.
	Proxy  *ProxyConfig
	RunDir string
	Log    *slog.Logger
	// Ready is called once packets flow both ways; may be nil.
	Ready func()
	// Waiting is called once when the mesh does not answer at once, with why and
	// for how long it is tried; may be nil.
	Waiting func(err error, within time.Duration)
}

// Connect runs a client's session until ctx ends, an operator disconnects it,
// the mesh ends it, or a part of this host fails that it cannot do without. Only
// the first two are the user's own end and open this host again; see Shut.
func Connect(ctx context.Context, config ConnectConfig) (err error) {
	scheduler.Seat(0) // there may be one CPU only
	if err := os.MkdirAll(config.RunDir, 0o700); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	unlock, err := LockClient(ctx, config.RunDir) // before anything that another client would notice
	if err != nil {
		return err
	}
	defer unlock()
	device, forget := ownDevice(config)
	defer forget()
	signalled := ctx.Err
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { _ = scheduler.KeepMonitorCalm(ctx) }() // what it saves is no reason to fail
	c := &connection{config: config, device: device, cancel: cancel, signalled: signalled}
	user, err := openUserSide(config, c.fail)
	if err != nil {
		return err
	}
	c.user = user
	if c.engine, err = dataplane.New(dataplane.Config{
		Device: user.device(), Clock: newPacketClock().now, USO: user.uso(),
		Marked: func(from link.Socket, path link.Path, m dataplane.Marker, d []byte) {
			c.client.ReceiveMarked(from, path, m, d)
		},
		Fault: func(err error) { c.fail(fmt.Errorf("a packet worker gave up: %w", err)) },
		Busy:  seatWorkers,
	}); err != nil {
		return errors.Join(err, user.device().Close(), user.close(false))
	}
	defer func() { err = c.close(err) }()
	if c.client, err = c.newClient(); err != nil {
		return err
	}
	if err := c.engine.Start(); err != nil {
		return err
	}
	stop, err := c.openOperator(func() {
		c.disconnected.Store(true)
		cancel(nil)
	})
	if err != nil {
		return err
	}
	defer stop()
	err = errAbrupt // until Run says how it ended
	return errors.Join(c.client.Run(ctx), c.failure())
}

// fail ends the connection for want of a part of this host.
func (c *connection) fail(err error) {
	c.broken.CompareAndSwap(nil, &err)
	c.cancel(err)
}

func (c *connection) failure() error {
	if err := c.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// ownDevice is which device this is to the mesh: a login ends the earlier session of
// the same. Without a place to keep an id, or while another client of this host has
// it, each start counts as a device of its own.
func ownDevice(config ConnectConfig) (id mka.DeviceID, forget func()) {
	device, err := datadir.OpenDevice(config.DataDir, config.Profile.Cluster, config.User)
	if err != nil {
		config.Log.Info("this start counts as a device of its own; a session that an earlier one left counts beside it",
			"data_dir", config.DataDir, "error", err)
		return id, func() {}
	}
	return device.ID, func() { device.Close() }
}

// connection is the parts of one client.
type connection struct {
	config ConnectConfig
	device mka.DeviceID
	cancel func(error)
	broken atomic.Pointer[error] // why it cannot go on
	// signalled is not nil once the user's own signal came; disconnected says the
	// same of meshcrypt disconnect.
	signalled    func() error
	disconnected atomic.Bool
	user         userSide
	engine       *dataplane.Engine
	client       *client.Client
}

// userSide is what lies between the tunnel and its user: the host's stack with
// a TUN, or a stack of this process with a proxy.
type userSide interface {
	client.Host
	device() tun.Device
	// uso says that the device takes UDP super-packets.
	uso() bool
	// mark is of our own outer packets.
	mark() int
	// faults is what of the host is not whole, putBack what other software removed
	// and is back.
	faults() []string
	putBack() map[string]uint64
	// up says that Up has changed this host.
	up() bool
	// local are this host's networks beside the tunnel; roamed settles for those
	// of now.
	local() []control.ClientLocal
	roamed()
	// close gives back what Up took, or leaves what keeps traffic in; the engine has
	// closed the device.
	close(leave bool) error
}

// openUserSide also says whom to tell that the user side cannot go on.
func openUserSide(config ConnectConfig, lost func(error)) (userSide, error) {
	if config.Proxy != nil {
		return openRootless(config)
	}
	return openRouted(config, lost)
}

func (c *connection) newClient() (*client.Client, error) {
	ledger, err := openLedger()
	if err != nil {
		return nil, err
	}
	suites := c.config.Suites
	if len(suites) == 0 {
		suites = client.PreferredSuites()
	}
	return client.New(client.Config{
		Suites: suites, Device: c.device,
		Profile: c.config.Profile, Login: c.config.Login, Bandwidth: c.config.Bandwidth, Mode: registry.Mode(c.config.Mode),
		Shares: registry.Shares(c.config.Shares), SprayUDP: c.config.SprayUDP, Peer: c.config.Peer,
		Engine: c.engine, Host: c.user, Network: c, Open: c.openSocket, Ledger: ledger, KeyLog: keyLog(),
		Mark: c.user.mark(), Ready: c.config.Ready, Waiting: c.config.Waiting, ParkAfter: parksAfter(),
		Random: rand.Reader, Now: bootTime, Wall: wallClock(), Log: c.config.Log,
	})
}

// openSocket makes one slice's socket, which reaches gateways of every family
// this host has. Its packets are marked, so that they never follow the routes
// into the tunnel they carry.
func (c *connection) openSocket() (link.Socket, error) {
	sockets, err := link.Listen(link.Config{Addr: netip.AddrPortFrom(host.Unspecified(), 0), Mark: c.user.mark(), Ahead: true, Answers: true})
	if err != nil {
		return nil, err
	}
	return sockets[0], nil
}

// Watch implements client.Network.
func (c *connection) Watch(ctx context.Context, changed func()) error {
	return host.WatchNetwork(ctx, func() {
		c.user.roamed()
		changed()
	})
}

// WatchGeneration implements client.Network.
func (c *connection) WatchGeneration(ctx context.Context, heard func()) error {
	return host.WatchGeneration(ctx, heard)
}

// ExitTo implements client.Network.
func (c *connection) ExitTo(to netip.Addr) host.Exit { return host.ExitTo(to, c.user.mark()) }

// openOperator lets meshcrypt disconnect find this client.
func (c *connection) openOperator(disconnect func()) (closeAll func(), err error) {
	path := filepath.Join(c.config.RunDir, ClientSocket)
	listener, err := listenSocket(path)
	if err != nil {
		return nil, err
	}
	server := &http.Server{ReadHeaderTimeout: OperatorWait, Handler: control.Handler(map[string]control.Operation{
		control.OpDisconnect: {Do: control.Handle(func(*http.Request, control.Nothing) (control.Nothing, error) {
			disconnect()
			return control.Nothing{}, nil
		})},
		control.OpStatus: {Look: true, Do: control.Handle(func(r *http.Request, _ control.Nothing) (control.ClientStatus, error) {
			s, err := c.client.Status(r.Context())
			s.User, s.PutBack, s.Local = c.config.User, c.user.putBack(), c.user.local()
			if faults := c.user.faults(); len(faults) > 0 {
				s.Health, s.Problems = "degraded", append(s.Problems, faults...)
			}
			return s, err
		})},
	}, func(*http.Request) control.Caller { return control.CallerLocal })}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // ends by Shutdown
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = errors.Join(server.Shutdown(ctx), os.Remove(path))
		<-served
	}, nil
}
