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
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/host"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// Names of the files in a client's run directory.
const (
	// ClientSocket is the operator's socket of a running client.
	ClientSocket = "client.sock"
	clientState  = "client-host.json"
)

// ConnectConfig is what a client is started with.
type ConnectConfig struct {
	Profile   client.Profile
	User      string
	Password  func() ([]byte, error)
	Bandwidth uint64      // bit/s wanted; 0 leaves it to the mesh
	Mode      string      // slicing mode wanted; empty leaves it to the mesh
	Suites    []esp.Suite // ciphers offered, best first; none: what suits this host
	TUN       string
	RunDir    string
	Log       *slog.Logger
	// Ready is called once packets flow both ways; may be nil.
	Ready func()
}

// Connect runs a client's session until ctx ends, an operator disconnects it,
// or the mesh ends it.
func Connect(ctx context.Context, config ConnectConfig) (err error) {
	if err := os.MkdirAll(config.RunDir, 0o700); err != nil {
		return fmt.Errorf("run directory: %w", err)
	}
	device, err := tun.Open(config.TUN, workers(), InnerMTU)
	if err != nil {
		return err
	}
	c := &connection{config: config}
	if c.engine, err = dataplane.New(dataplane.Config{
		Device: device, Clock: clockNanoseconds, USO: true,
		Marked: func(from link.Socket, path link.Path, m dataplane.Marker, d []byte) {
			c.client.ReceiveMarked(from, path, m, d)
		},
		Fault: func(err error) { config.Log.Error("a packet worker gave up", "error", err) },
	}); err != nil {
		return errors.Join(err, device.Close())
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if c.client, err = c.newClient(); err != nil {
		return err
	}
	if err := c.engine.Start(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop, err := c.openOperator(cancel)
	if err != nil {
		return err
	}
	defer stop()
	return c.client.Run(ctx)
}

// connection is the parts of one client.
type connection struct {
	config ConnectConfig
	engine *dataplane.Engine
	client *client.Client
	host   *host.Client // nil before the first welcome; owned by the client's loop
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
		Suites:  suites,
		Profile: c.config.Profile, Login: c.login(), Bandwidth: c.config.Bandwidth, Mode: registry.Mode(c.config.Mode),
		Engine: c.engine, Host: c, Open: openClientSocket, Ledger: ledger, KeyLog: keyLog(),
		Mark: host.DefaultMark, Ready: c.config.Ready,
		Random: rand.Reader, Now: bootTime, Wall: wallClock(), Log: c.config.Log,
	})
}

// login derives the password's key once; the password itself goes nowhere.
func (c *connection) login() func(client.Binding) (protocol.Auth, error) {
	return func(binding client.Binding) (protocol.Auth, error) {
		password, err := c.config.Password()
		if err != nil {
			return protocol.Auth{}, err
		}
		key, err := auth.DeriveKey(password, c.config.Profile.Cluster, c.config.User, auth.DefaultCost())
		clear(password)
		if err != nil {
			return protocol.Auth{}, err
		}
		return protocol.Auth{
			Method: protocol.MethodPassword, User: c.config.User,
			Proof: auth.SignPassword(key, binding, c.config.User),
		}, nil
	}
}

// openClientSocket makes one slice's socket. Its packets are marked, so that
// they never follow the routes into the tunnel they carry.
func openClientSocket() (link.Socket, error) {
	sockets, err := link.Listen(link.Config{Addr: netip.AddrPortFrom(netip.IPv4Unspecified(), 0), Mark: host.DefaultMark})
	if err != nil {
		return nil, err
	}
	return sockets[0], nil
}

// Up implements client.Host: first the blackholes, then address and routes.
func (c *connection) Up(leases []netip.Addr, update protocol.Update) (err error) {
	if c.host != nil {
		return c.host.Update(update.Prefixes)
	}
	if c.host, err = host.PrepareClient(host.ClientConfig{
		TUN: c.config.TUN, Leases: leases, Prefixes: update.Prefixes,
		Mark: host.DefaultMark, Table: host.DefaultTable,
		StateFile: filepath.Join(c.config.RunDir, clientState),
	}); err != nil {
		return err
	}
	if overlaps, err := c.host.Overlaps(); err == nil {
		for _, o := range overlaps {
			c.config.Log.Warn("a pushed network hides a local one", "pushed", o.Prefix, "local", o.Local, "device", o.Device)
		}
	}
	return c.host.Up()
}

// close gives the host back after a clean stop; a killed client leaves its
// blackhole routes, so that nothing follows the default route out.
func (c *connection) close() error {
	err := c.engine.Close()
	if c.host != nil {
		err = errors.Join(err, c.host.Close())
	}
	return err
}

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
