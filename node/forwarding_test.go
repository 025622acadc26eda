package node

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/agent"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/tun"
	"github.com/meshcrypt/meshcrypt/node/tun/tuntest"
)

// TestInsideDoor: where strangers reach the inside interface their datagrams come by a
// socket of their own, and a node's do not.
func TestInsideDoor(t *testing.T) {
	f := openExposed(t)
	f.engine.Publish(&dataplane.Table{Own: 2, Peers: map[netip.Addr]bool{netip.MustParseAddr("127.0.0.2"): true}})
	if err := f.know(); err != nil {
		t.Fatal(err)
	}
	heard := make(chan int, 16)
	for i, s := range f.inside {
		go func() {
			buffer := make([]byte, link.MaxTrain)
			for {
				if _, err := s.Receive(buffer); err != nil {
					return
				}
				heard <- i
			}
		}()
	}
	for from, stranger := range map[string]bool{"127.0.0.2": false, "127.0.0.3": true} {
		say(t, from, f.inside[0].LocalAddr())
		select {
		case at := <-heard:
			if is := at == len(f.inside)-1; is != stranger || len(f.inside) != workers()+1 {
				t.Errorf("%s was heard at socket %d of %d", from, at, len(f.inside))
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s was not heard", from)
		}
	}
}

// TestIdleProcessRuns: where no packet comes the packet path itself shows that this process runs
// while its owner is busy. A starved host may be late; not each time.
func TestIdleProcessRuns(t *testing.T) {
	f := openExposed(t)
	f.agent = new(agent.Agent) // a busy one
	ctx, end := context.WithCancel(t.Context())
	var kept sync.WaitGroup
	kept.Go(func() { f.keep(ctx) })
	defer kept.Wait()
	defer end()
	for range 10 {
		f.engine.Resume()
		f.engine.Tick()
		<-time.After(2 * dataplane.StallLimit)
		if f.engine.Tick() == 0 {
			return
		}
	}
	t.Error("a busy owner is taken for a process that stood still")
}

// openExposed is the packet path of a node without a TUN, on ports that are free.
func openExposed(t *testing.T) *forwarding {
	t.Helper()
	var err error
	for range 20 {
		free, listenErr := net.ListenPacket("udp", "127.0.0.1:0")
		if listenErr != nil {
			t.Fatal(listenErr)
		}
		at := free.LocalAddr().(*net.UDPAddr).AddrPort()
		_ = free.Close() // taken again at once
		var f *forwarding
		f, err = openForwarding(datadir.Node{
			Listen: at, Outer: at, Inside: at.Addr(), Pool: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}, Userspace: true,
		}, true, nil, slog.New(slog.DiscardHandler), func(err error) { t.Error(err) })
		if err == nil {
			t.Cleanup(func() {
				if err := f.close(true); err != nil {
					t.Error(err)
				}
			})
			return f
		}
	}
	t.Fatal(err)
	return nil
}

// goingStack notes in which order it is told of the end.
type goingStack struct {
	insideStack
	told []string
}

func (s *goingStack) rest()            { s.told = append(s.told, "rest") }
func (s *goingStack) close(bool) error { s.told = append(s.told, "close"); return nil }
func (s *goingStack) device() tun.Device {
	s.told = append(s.told, "device")
	return tuntest.New(1)
}

// TestNobodyElseTookTheDevice: the watch ends before the device does, or it would say that
// other software removed it.
func TestNobodyElseTookTheDevice(t *testing.T) {
	s := &goingStack{}
	if err := (&forwarding{stack: s}).close(false); err != nil || !slices.Equal(s.told, []string{"rest", "device", "close"}) {
		t.Errorf("the stack was told %v (%v)", s.told, err)
	}
}

func say(t *testing.T, from string, to netip.AddrPort) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	conn, err := d.Dial("udp", to.String())
	if err == nil {
		_, err = conn.Write([]byte("knock, knock"))
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close() // it was said
}
