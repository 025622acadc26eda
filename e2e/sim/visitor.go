package sim

import (
	"context"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

type duration = time.Duration

// visitor is somebody with an account.
type visitor struct {
	*host
	world   *World
	key     identity.Key
	device  mka.DeviceID
	session string   // that it said it has; the driver's
	parked  bool     // it said so last; the driver's
	rested  bool     // it was parked when all was over; the driver's
	came    duration // when that changed; the driver's
	out     int      // orders that threw it out, and it is not back; the driver's
	ready   func()   // once it is in; nil: nobody wants to know

	process *process
	engine  *dataplane.Engine
	client  *client.Client
	cancel  context.CancelFunc
	ended   chan struct{}
}

// connect starts a client, through one gateway or, later, the others.
func (v *visitor) connect(first int) {
	w := v.world
	p := v.host.start(w)
	v.session = ""
	v.process, v.ended = p, make(chan struct{})
	profile := client.Profile{Cluster: w.mesh.authority.Cluster(), CAHash: w.mesh.authority.Hash(), User: v.name}
	for i := range w.mesh.members {
		profile.Gateways = append(profile.Gateways, w.mesh.members[(first+i)%len(w.mesh.members)].at())
	}
	var err error
	v.engine, err = dataplane.New(dataplane.Config{
		Device: tuntest.New(1), Clock: func() int64 { return int64(p.now()) },
		Marked: func(from link.Socket, path link.Path, m dataplane.Marker, b []byte) {
			v.client.ReceiveMarked(from, path, m, b)
		},
	})
	w.ok(err)
	v.client, err = client.New(client.Config{
		Profile: profile, Mode: registry.ModeBurst, Suites: client.PreferredSuites(), Engine: v.engine, Host: v,
		Login: func(b client.Binding) (client.Login, error) {
			return client.Login{Auth: protocol.Auth{Method: protocol.MethodPassword, User: v.name, Proof: auth.SignPassword(v.key, b, v.name)}}, nil
		},
		Dial: p.dial, Open: func() (link.Socket, error) { return p.listen(p.freePort(v.outer)), nil },
		Ready: func() {
			w.trace.note(v.name, "is ready")
			if v.ready != nil {
				w.leave(v.name, v.ready)
			}
		},
		Device: v.device, ParkAfter: w.parkAfter,
		Random: p.newSource("client"), Now: p.now, Wall: p.wall, Log: p.log(),
	})
	w.ok(err)
	w.ok(v.engine.Start())
	c, engine, ended := v.client, v.engine, v.ended
	ctx, cancel := context.WithCancel(context.Background())
	v.cancel = cancel
	go func() {
		defer close(ended)
		err := c.Run(ctx)
		if p.alive() {
			w.watch.ended(v, err)
		}
	}()
	p.ended = func() {
		go func() {
			cancel()
			<-ended
			_ = engine.Close() // the twins cannot fail to close
		}()
	}
	w.trace.note(v.name, "connects")
}

// Up is client.Host.
func (v *visitor) Up(leases []netip.Addr, _ protocol.Update) error {
	v.world.trace.note(v.name, "has %v", leases)
	return nil
}

// SetMTU is client.Host.
func (v *visitor) SetMTU(int) error { return nil }
