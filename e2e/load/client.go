package main

import (
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/tun"
)

// tick is how often a client looks after itself: a quarter as often as one that has a host
// of its own, and often enough that it does not take itself for one that stood still.
const tick = 4 * client.TickEvery

// visitor is one client: the product's own, but for the host, which has neither a TUN
// nor routes, and for its sockets, which wait for packets without a thread each.
type visitor struct {
	source netip.Addr
	client *client.Client
	engine *dataplane.Engine
	cancel context.CancelFunc
	ended  chan struct{}
	ready  chan struct{}
	err    error // of Run; read when ended is closed
	flow   *flow // nil: it has nothing to send
	dials  atomic.Int64
	ends   atomic.Int64 // of connections
	look   glance       // its fleet's

	mu    sync.Mutex // protects what follows
	conns []net.Conn // of every control connection that was made
	dead  bool       // no further one is
}

// source is the address of the i-th client of a fleet.
func source(i int) netip.Addr {
	i += 256 // no address that ends where a network does for a reader's eye
	return netip.AddrFrom4([4]byte{127, byte(32 + i>>16), byte(i >> 8), byte(i)})
}

// visit starts the i-th client. talks says that it sends packets.
func visit(ctx context.Context, i int, profile client.Profile, key identity.Key, talks bool) (*visitor, error) {
	v := &visitor{source: source(i), ended: make(chan struct{}), ready: make(chan struct{})}
	pace := &clock{read: func() time.Duration { return time.Since(started) }}
	var device tun.Device = nowhere{}
	var host client.Host = nowhere{}
	every := tick
	if talks { // what it measures is to be what a user has
		v.flow, every = newFlow(), client.TickEvery
		device, host = v.flow, v.flow
	}
	var err error
	if v.engine, err = dataplane.New(dataplane.Config{
		Device: device, Clock: func() int64 { return int64(pace.now()) },
		Marked: func(from link.Socket, path link.Path, m dataplane.Marker, d []byte) {
			v.client.ReceiveMarked(from, path, m, d)
		},
	}); err != nil {
		return nil, err
	}
	config := client.Config{
		Profile: profile, Suites: client.PreferredSuites(), Engine: v.engine, Host: host, Open: v.open, Dial: v.dial,
		Ready: func() { close(v.ready) }, Random: rand.Reader, Wall: time.Now, Log: slog.New(slog.DiscardHandler),
		Now: pace.now, Tick: every,
		Login: func(b client.Binding) (client.Login, error) {
			proof := auth.SignPassword(key, b, profile.User)
			return client.Login{Auth: protocol.Auth{Method: protocol.MethodPassword, User: profile.User, Proof: proof}}, nil
		},
	}
	if _, err := io.ReadFull(rand.Reader, config.Device[:]); err != nil {
		return nil, err
	}
	if v.client, err = client.New(config); err != nil {
		return nil, err
	}
	if talks {
		if err := v.engine.Start(); err != nil {
			return nil, err
		}
	}
	ctx, v.cancel = context.WithCancel(ctx)
	go func() {
		defer close(v.ended)
		v.err = v.client.Run(ctx)
		_ = v.engine.Close() // nothing behind it can fail to close
	}()
	return v, nil
}

// dial is client.Config.Dial.
func (v *visitor) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: v.source.AsSlice()}}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	v.dials.Add(1)
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.dead {
		conn.Close()
		return nil, net.ErrClosed
	}
	v.conns = append(v.conns[:0], conn) // a client has one at a time, or two for a moment
	return &counted{Conn: conn, of: v}, nil
}

// counted is a connection whose end is counted.
type counted struct {
	net.Conn
	of   *visitor
	once sync.Once // it is closed more than once
}

// Close is net.Conn's.
func (c *counted) Close() error {
	c.once.Do(func() { c.of.ends.Add(1) })
	return c.Conn.Close()
}

// open is client.Config.Open.
func (v *visitor) open() (link.Socket, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: v.source.AsSlice()})
	if err != nil {
		return nil, err
	}
	return &socket{conn: conn}, nil
}

// leave logs the client out.
func (v *visitor) leave() {
	v.cancel()
	<-v.ended
}

// kill ends the client as kill -9 does: the kernel closes what it had open, and nobody
// says goodbye.
func (v *visitor) kill() {
	v.mu.Lock()
	v.dead = true
	for _, conn := range v.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // as where bytes were not read
		}
		conn.Close()
	}
	v.mu.Unlock()
	_ = v.engine.Close()
	v.leave()
}

// glance is how a client was when it was looked at last, and what had happened until then.
type glance struct {
	attached    bool
	dials, ends int64
	from        int64 // of dials: only one that was made since counts
}

// attached says that the arbiter hears the client now, or let it park. To ask a client costs
// more than it does at rest, so it is asked only when it has made or lost a connection, or
// has one over which it is not attached yet.
func (v *visitor) attached(ctx context.Context) bool {
	select {
	case <-v.ready:
	default:
		return false
	}
	l := &v.look
	dials, ends := v.dials.Load(), v.ends.Load()
	if l.dials != dials || l.ends != ends || !l.attached && dials > ends {
		s, err := v.client.Status(ctx)
		l.attached, l.dials, l.ends = err == nil && (s.Control || s.Parked), dials, ends
	}
	return l.attached && dials > l.from
}

// anew has it count as attached only by another connection than it has had until now.
func (v *visitor) anew() { v.look.from = v.dials.Load() }

// nowhere is a host without a tunnel, and the device behind it, which never has a
// packet to send. Its engine's outbound side is not started.
type nowhere struct{}

func (nowhere) Up([]netip.Addr, protocol.Update) error { return nil }
func (nowhere) SetMTU(int) error                       { return nil }
func (nowhere) Name() string                           { return "nowhere" }
func (nowhere) Queues() []tun.Queue                    { return []tun.Queue{nowhere{}} }
func (nowhere) Close() error                           { return nil }
func (nowhere) Read([]byte) (int, error)               { return 0, tun.ErrClosed }
func (nowhere) TryRead([]byte) (int, error)            { return 0, nil }
func (nowhere) Write([][]byte) error                   { return nil }
