package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/tun"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

// visitor is a client of the world.
type visitor struct {
	*world
	name    string
	journal *journal // of this client alone
	device  *tuntest.Device
	engine  *dataplane.Engine
	ahead   atomic.Int64
	cancel  context.CancelFunc
	ended   chan error
	ready   chan struct{}

	mu       sync.Mutex // protects what the host was told
	leases   []netip.Addr
	prefixes []netip.Prefix
}

// SetMTU is client.Host.
func (v *visitor) SetMTU(int) error { return nil }

// Up is client.Host.
func (v *visitor) Up(leases []netip.Addr, update protocol.Update) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leases, v.prefixes = leases, update.Prefixes
	return nil
}

func (v *visitor) lease() netip.Addr {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.leases[0]
}

// connect adds a client to the registry and opens its session through the
// given gateways, the first one first.
func (w *world) connect(name string, bandwidth uint64, gateways ...*member) *visitor {
	w.Helper()
	key, err := identity.NewKey(rand.Reader)
	w.ok(err)
	w.propose(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: name, PasswordKey: key.Public()}}})
	v := &visitor{
		world: w, name: name, journal: &journal{said: make(map[string]int)}, device: tuntest.New(1),
		ended: make(chan error, 1), ready: make(chan struct{}),
	}
	profile := client.Profile{Cluster: w.founded.Cluster, CAHash: w.founded.CAHash, User: name}
	for _, g := range gateways {
		profile.Gateways = append(profile.Gateways, g.self.Outer)
	}
	v.run(client.Config{
		Profile: profile, Bandwidth: bandwidth, Mode: registry.ModeBurst, Suites: client.PreferredSuites(),
		Login: func(b client.Binding) (client.Login, error) {
			return client.Login{Auth: protocol.Auth{Method: protocol.MethodPassword, User: name, Proof: auth.SignPassword(key, b, name)}}, nil
		},
	})
	select {
	case <-v.ready:
	case err := <-v.ended:
		w.Fatalf("no session: %v", err)
	case <-time.After(hangLimit):
		w.Fatalf("no session; client log: %v, mesh log: %v", v.journal.all(), w.journal.all())
	}
	return v
}

func (v *visitor) run(c client.Config) {
	v.Helper()
	c.Host, c.Random, c.Wall, c.Log = v, rand.Reader, time.Now, newLogger(v.journal)
	c.Now = func() time.Duration { return bootTime() + time.Duration(v.ahead.Load()) }
	c.Ready = func() { close(v.ready) }
	c.Open = func() (link.Socket, error) {
		return v.sim.Listen(netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), uint16(v.sockets.Add(1))))
	}
	var one *client.Client
	var err error
	v.engine, err = dataplane.New(dataplane.Config{
		Device: v.device, Clock: func() int64 { return int64(c.Now()) },
		Marked: func(from link.Socket, path link.Path, m dataplane.Marker, d []byte) {
			one.ReceiveMarked(from, path, m, d)
		},
	})
	v.ok(err)
	c.Engine = v.engine
	one, err = client.New(c)
	v.ok(err)
	v.ok(v.engine.Start())
	ctx, cancel := context.WithCancel(context.Background())
	v.cancel = cancel
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		v.ended <- one.Run(ctx)
	}()
	v.Cleanup(func() {
		if v.Failed() {
			s := v.session()
			v.Logf("client %s: log %v, slices %+v, retiring %+v", v.name, v.journal.all(), s.Slices, s.Retiring)
		}
		cancel()
		<-finished
		_ = v.engine.Close() // the twins cannot fail to close
	})
}

// session is the client's session as the registry has it.
func (v *visitor) session() (found registry.Session) {
	v.Helper()
	v.registry(func(s *registry.State) {
		for _, live := range s.Sessions.All() {
			if live.Client == v.name {
				found = *live
				found.Slices = append([]registry.Slice(nil), live.Slices...)
			}
		}
	})
	return found
}

// settled reports whether every slice is up, none of them at one of those nodes.
func (v *visitor) settled(without ...*member) bool {
	s := v.session()
	for _, sl := range s.Slices {
		for _, m := range without {
			if sl.Agent == m.trust.Key.ID() {
				return false
			}
		}
		if sl.State != registry.SliceUp {
			return false
		}
	}
	return len(s.Slices) > 0
}

const innerHost = "10.1.0.9"

// exchange sends count flows up and their answers down; what the network lost
// is sent again, as TCP would. It returns at how many nodes packets came out.
func (v *visitor) exchange(count int) (nodes int) {
	v.Helper()
	first := v.flows
	v.flows += count
	up, down := make(map[int]bool), make(map[int]bool)
	used := make(map[*member]bool)
	server := netip.AddrPortFrom(netip.MustParseAddr(innerHost), 80)
	v.until("every packet arrived, both ways", func() bool {
		for i := range count {
			inside := netip.AddrPortFrom(v.lease(), uint16(10000+first+i))
			if !up[first+i] {
				v.inject(v.device, inside, server, first+i)
			}
			if egress := v.byID(v.session().Egress); !down[first+i] && !egress.ended {
				v.inject(egress.device, server, inside, first+i)
			}
		}
		for _, m := range v.members {
			if v.take(m.device, first, up) {
				used[m] = true
			}
		}
		v.take(v.device, first, down)
		return len(up) == count && len(down) == count
	})
	return len(used)
}

func (v *visitor) inject(d *tuntest.Device, from, to netip.AddrPort, number int) {
	v.Helper()
	packet, err := probe.Packet(from, to, binary.BigEndian.AppendUint64([]byte("mesh"), uint64(number)))
	v.ok(err)
	d.Inject(tun.VnetHeader{}, packet)
}

// take notes the numbers of this exchange's packets that came out of a device;
// late copies of earlier ones are passed over.
func (v *visitor) take(d *tuntest.Device, first int, into map[int]bool) (any bool) {
	for _, p := range d.TakeAll() {
		if len(p.Data) != 40 || string(p.Data[28:32]) != "mesh" {
			continue
		}
		if number := int(binary.BigEndian.Uint64(p.Data[32:])); number >= first {
			into[number], any = true, true
		}
	}
	return any
}
