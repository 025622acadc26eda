package client

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/linktest"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/pmtu"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

const hangLimit = 30 * time.Second

// fixture is a client whose loop the test itself turns, by a clock of its own.
// Behind each of its gateways stand the far ends of its slices.
type fixture struct {
	*testing.T
	*Client
	sim      *linktest.Network
	clock    atomic.Int64
	device   *tuntest.Device
	sockets  uint16
	gateways [2]*linktest.Socket
	far      map[sliceKey]*dataplane.Pair
	arbiter  identity.Key
	peer     net.Conn // the arbiter's end of the control connection
	ups      []protocol.Update
	mtus     []int // that the TUN was given
	older    bool  // its arbiter knows no channel
}

// SetMTU is Host.
func (f *fixture) SetMTU(mtu int) error {
	f.mtus = append(f.mtus, mtu)
	return nil
}

// Up is Host.
func (f *fixture) Up(_ []netip.Addr, update protocol.Update) error {
	f.ups = append(f.ups, update)
	return nil
}

func lease() netip.Addr { return netip.MustParseAddr("10.77.0.16") }

func gatewayAddr(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n + 1)}), 6484)
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{T: t, device: tuntest.New(1), sim: linktest.New(1), far: make(map[sliceKey]*dataplane.Pair), sockets: 40000}
	f.clock.Store(int64(time.Hour))
	var err error
	for i := range f.gateways {
		f.gateways[i], err = f.sim.Listen(gatewayAddr(i))
		f.ok(err)
	}
	f.arbiter, err = identity.NewKey(rand.Reader)
	f.ok(err)
	engine, err := dataplane.New(dataplane.Config{
		Device: f.device, Clock: f.clock.Load,
		Marked: func(from link.Socket, path link.Path, m dataplane.Marker, d []byte) {
			f.Client.ReceiveMarked(from, path, m, d)
		},
	})
	f.ok(err)
	f.Client, err = New(Config{
		Profile: Profile{Gateways: []netip.AddrPort{gatewayAddr(0), gatewayAddr(1)}},
		Engine:  engine, Host: f, Open: f.open, Random: rand.Reader,
		Now: func() time.Duration { return time.Duration(f.clock.Load()) }, Wall: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	f.ok(err)
	f.ok(engine.Start())
	t.Cleanup(func() { f.ok(engine.Close()) })
	return f
}

func (f *fixture) open() (link.Socket, error) {
	f.sockets++
	return f.sim.Listen(netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), f.sockets))
}

func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// connect gives the client a control connection through its first gateway.
func (f *fixture) connect() *controlState { return f.connectBy(0) }

func (f *fixture) connectBy(gateway int) *controlState {
	near, far := net.Pipe()
	f.peer = far
	f.Cleanup(func() { near.Close(); far.Close() })
	hello := mka.Hello{Versions: []uint16{mka.Version}, Suites: []esp.Suite{esp.AES256GCM}, SessionKey: f.key.Public()}
	f.control = newControl(near, f.arbiter.Public(), gatewayAddr(gateway), hello.Marshal())
	f.aliveAt = f.config.Now()
	return f.control
}

// said takes the messages to the arbiter.
func (f *fixture) said() (all []*protocol.Client) {
	for m := f.control.Take(); m != nil; m = f.control.Take() {
		all = append(all, m)
	}
	return all
}

func sas(t *testing.T, spi uint32, material byte) (*esp.Outbound, *esp.Inbound) {
	t.Helper()
	key, err := esp.NewKey(esp.AES256GCM, bytes.Repeat([]byte{material}, 36))
	if err != nil {
		t.Fatal(err)
	}
	o, errOut := esp.NewOutbound(spi, key, esp.DefaultLimits(), nil)
	i, errIn := esp.NewInbound(spi, key, esp.DefaultLimits())
	if errOut != nil || errIn != nil {
		t.Fatal(errOut, errIn)
	}
	return o, i
}

// slice gives the client a confirmed slice, and its agent's end behind the
// first gateway.
func (f *fixture) slice(number uint8, epoch uint32) *slice {
	f.Helper()
	key := sliceKey{number, epoch}
	spiC, spiA := 1000+uint32(number)*10+epoch, esp.MakeSPI(identity.Index(number+2), epoch)
	up, upIn := sas(f.T, spiA, byte(2*spiC))
	down, downIn := sas(f.T, spiC, byte(2*spiC+1))
	socket, err := f.open()
	f.ok(err)
	s := &slice{key: key, grant: mka.Grant{Slice: number, Epoch: epoch, SPI: spiA, Weight: 1}, socket: socket, confirmed: true, sizing: sizing{search: pmtu.New(false)}}
	s.pair = &dataplane.Pair{
		In: downIn, Out: up, Leases: []netip.Addr{lease()}, Socket: socket, Ends: int64(f.config.Now() + dataplane.KeyLife),
		Control: func(payload []byte) { f.speaks(key, payload) },
	}
	s.pair.SetPath(link.Path{Remote: gatewayAddr(0)})
	f.slices[key] = s
	f.dirty = true
	f.publishIfDirty()
	f.ok(f.config.Engine.Attach(socket))
	far := &dataplane.Pair{In: upIn, Out: down, Socket: f.gateways[0]}
	far.SetPath(link.Path{Remote: socket.LocalAddr()})
	f.far[key] = far
	return s
}

// speak lets a slice's agent say something; the client has it on return.
func (f *fixture) speak(s *slice) {
	f.Helper()
	f.ok(f.far[s.key].SendControl(probe.Ask(1, 0)))
	now := f.clock.Load()
	f.until("the agent is heard", func() bool { return s.pair.LastHeard() == now })
}

// advance lets time pass in ticks while those slices' agents speak and answer.
func (f *fixture) advance(d time.Duration, heard ...*slice) {
	f.Helper()
	for ; d > 0; d -= TickEvery {
		f.clock.Add(int64(TickEvery))
		for _, s := range heard {
			f.speak(s)
			f.hears(s)
		}
		f.tick()
		f.publishIfDirty()
	}
}

func (f *fixture) until(what string, holds func() bool) {
	f.Helper()
	for end := time.Now().Add(hangLimit); !holds(); f.pump() {
		if time.Now().After(end) {
			f.Fatalf("never happened: %s", what)
		}
		runtime.Gosched()
	}
}

func (f *fixture) pump() {
	for {
		select {
		case e := <-f.outside:
			f.turn(e)
		case e := <-f.events:
			f.turn(e)
			f.publishIfDirty()
		case <-f.inband.Ready():
			if e, ok := f.inband.Take(); ok {
				f.turn(e)
				f.publishIfDirty()
			}
		default:
			return
		}
	}
}

// received takes what came to a gateway by UDP.
func (f *fixture) received(gateway int) (all [][]byte) {
	buffer := make([]byte, link.MaxTrain)
	for {
		t, ok := f.gateways[gateway].TryReceive(buffer)
		if !ok {
			return all
		}
		all = append(all, append([]byte(nil), buffer[:t.Len]...))
	}
}

// arrived takes what came to a gateway and opens it with a slice's far end.
func (f *fixture) arrived(gateway int, s *slice) (bodies [][]byte) {
	for _, d := range f.received(gateway) {
		if spi, _ := esp.ParseSPI(d); spi == s.grant.SPI {
			body, _, _, err := f.far[s.key].In.Open(d)
			f.ok(err)
			bodies = append(bodies, body)
			continue
		}
		_ = f.gateways[gateway].Send(d, len(d), link.Path{Remote: gatewayAddr(gateway)}) // put back
	}
	return bodies
}

// routed is the slices that carry traffic, in the table as published.
func (f *fixture) routed() string {
	var names []string
	for _, r := range f.table().Default.Slices {
		for key, s := range f.slices {
			if s.pair == r.Pair {
				names = append(names, string(rune('0'+key.number))+"."+string(rune('0'+key.epoch)))
			}
		}
	}
	text, _ := json.Marshal(names)
	return string(text)
}
