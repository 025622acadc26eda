package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/gateway"
)

// forwarding is a node's packet path: the stack towards the inside network, the
// sockets, the engine and the gateway.
type forwarding struct {
	log     *slog.Logger
	fail    func(error)   // hears what this path cannot go on without
	stack   insideStack   // nil over the twins of a test
	outer   []link.Socket // the last is the strangers'
	door    *link.Door
	inside  []link.Socket
	between *link.Door  // of the inside sockets, whose last is the strangers' then; nil where none reach them
	whole   link.Socket // to other nodes' inside addresses, never in fragments
	engine  *dataplane.Engine
	gateway *gateway.Gateway
	ports   *link.Group // the gateway's
	room    room        // for them
	ledger  esp.Ledger
	agent   *agent.Agent // set before the first packet
	peers   []netip.Addr // room for those that the door is told
}

// openForwarding opens the stack before the sockets; what was opened is closed
// when a later step fails.
func openForwarding(self datadir.Node, exposed bool, dir *datadir.Dir, log *slog.Logger, fail func(error)) (f *forwarding, err error) {
	f = &forwarding{log: log, fail: fail}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.close(false))
			f = nil
		}
	}()
	if f.ledger, err = openLedger(); err != nil {
		return f, err
	}
	if f.stack, err = openStack(self, dir, log, fail, func(a netip.Addr) { f.agent.Rival(a) }); err != nil {
		return f, err
	}
	return f, f.openSockets(self, exposed)
}

// pathTests are the addresses from which nodes test their plaintext path.
func pathTests(pool []netip.Prefix) (all []netip.Addr) {
	for _, p := range pool {
		all = append(all, registry.PathTestAddress(p))
	}
	return all
}

func (f *forwarding) openSockets(self datadir.Node, exposed bool) (err error) {
	if f.outer, f.door, err = link.ListenBehindDoor(link.Config{Addr: self.Listen, Count: workers()}); err != nil {
		return fmt.Errorf("%w (is another process on UDP port %d? choose another with --listen)", err, self.Listen.Port())
	}
	if err = f.openInside(self, exposed); err != nil {
		return err
	}
	whole, err := link.Listen(link.Config{Addr: netip.AddrPortFrom(self.Inside, 0), Device: self.InsideIf})
	if err != nil {
		return err
	}
	f.whole = whole[0]
	clock := newPacketClock()
	if err = f.openGateway(self, clock.now); err != nil {
		return err
	}
	f.engine, err = dataplane.New(dataplane.Config{
		Device: f.stack.device(), Outer: f.outer, Inside: f.inside, Clock: clock.now, Forwarder: f.gateway, USO: f.stack.uso(),
		Marked: func(from link.Socket, path link.Path, m dataplane.Marker, datagram []byte) {
			f.agent.ReceiveMarked(from, path, m, datagram)
		},
		Violation: f.violation,
		Stalled:   func(gap time.Duration) { f.agent.Stalled(gap) },
		Fault:     func(err error) { f.fail(fmt.Errorf("a packet worker gave up: %w", err)) },
		Busy:      seatWorkers,
	})
	return err
}

// openInside opens what other nodes hand on to: behind a door where strangers reach it.
func (f *forwarding) openInside(self datadir.Node, exposed bool) (err error) {
	c := link.Config{
		Addr: netip.AddrPortFrom(self.Inside, insidePort(self)), Count: workers(), Device: self.InsideIf,
		Fragment: true, // the inside network may take no more than a session does
	}
	if exposed {
		f.inside, f.between, err = link.ListenBehindDoor(c)
		return err
	}
	f.inside, err = link.Listen(c)
	return err
}

// openGateway makes the gateway, whose ports towards the nodes are read together.
func (f *forwarding) openGateway(self datadir.Node, clock func() int64) (err error) {
	if f.ports, err = link.NewGroup(workers()); err != nil {
		return err
	}
	f.room = hostRoom()
	f.room.say(f.log)
	any := netip.AddrPortFrom(self.Listen.Addr(), 0)
	f.gateway, err = gateway.New(gateway.Config{
		OpenPort: func(receive func([]byte, link.Train)) (link.Sender, error) { return f.ports.Open(any, receive) },
		Attach:   func(s link.Socket) error { return f.engine.Attach(s) },
		Clock:    clock, MaxPorts: f.room.ports,
	})
	return err
}

func (f *forwarding) violation(reason dataplane.Reason, count uint64, path link.Path) {
	f.agent.Violation(reason.String(), path.Remote.Addr(), count)
}

// start lets packets in; the agent must be ready for what they bring.
func (f *forwarding) start(a *agent.Agent) error {
	f.agent = a
	return f.engine.Start()
}

// keep lets the gateway's rows age, shows the engine that this process runs, and tells the
// door who is no stranger, and what is worth taking up while an SA is flooded.
func (f *forwarding) keep(ctx context.Context) {
	age, know := time.NewTicker(time.Second), time.NewTicker(KnowEvery)
	defer age.Stop()
	defer know.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-age.C:
			f.gateway.Tick()
		case <-know.C:
			f.engine.Pulse()
			if err := f.know(); err != nil {
				f.log.Warn("strangers are not kept apart", "error", err)
			}
		}
	}
}

// know tells the doors who is no stranger.
func (f *forwarding) know() error {
	f.peers = f.known(f.peers[:0], link.MaxKnown)
	err := f.door.Know(f.peers, f.engine.Flooded())
	if f.between != nil {
		err = errors.Join(err, f.between.Know(f.engine.Inside(link.MaxKnown), nil))
	}
	return err
}

// known is who has proved itself: clients that an agent answered through this gateway,
// if those are no more than most, those whose packets open here, and the other nodes. It is
// in the room of a list that is empty.
func (f *forwarding) known(room []netip.Addr, most int) []netip.Addr {
	heard := f.engine.Heard(room, link.MaxKnown)
	if len(heard) == 0 {
		return heard // more than can be told apart, or a node that is not set up
	}
	all, fit := f.gateway.Confirmed(heard, most)
	if !fit {
		return all[:0]
	}
	return all
}

// close ends the packet path and gives the host back; left is whether this
// node is a member no more.
func (f *forwarding) close(left bool) (err error) {
	if f.stack != nil {
		f.stack.rest()
	}
	if f.engine != nil {
		err = f.engine.Close()
	} else {
		err = f.closeParts()
	}
	if f.whole != nil {
		err = errors.Join(err, f.whole.Close())
	}
	if f.gateway != nil {
		err = errors.Join(err, f.gateway.Close())
	}
	if f.ports != nil {
		err = errors.Join(err, f.ports.Close())
	}
	if f.stack != nil {
		err = errors.Join(err, f.stack.close(left))
	}
	return err
}

// closeParts closes what no engine owns yet.
func (f *forwarding) closeParts() (err error) {
	for _, s := range append(f.outer, f.inside...) {
		err = errors.Join(err, s.Close())
	}
	if f.stack != nil {
		err = errors.Join(err, f.stack.device().Close())
	}
	return err
}
