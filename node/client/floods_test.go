package client

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// wiretap keeps what is sent, and what it was told to keep to.
type wiretap struct {
	link.Socket
	sent    [][]byte
	windows []link.Window
}

func (w *wiretap) Send(b []byte, segment int, path link.Path) error {
	w.sent = append(w.sent, append([]byte(nil), b...))
	return w.Socket.Send(b, segment, path)
}

func (w *wiretap) Confine(window link.Window) error {
	w.windows = append(w.windows, window)
	return nil
}

// TestFloodsAreKeptOut: the socket of the slice that is replayed to is told what
// its window has passed, and no other socket is.
func TestFloodsAreKeptOut(t *testing.T) {
	f := newFixture(t)
	f.connect()
	f.inNetwork()
	replayed, quiet := f.slice(0, 1), f.slice(1, 1)
	at, spared, agent := &wiretap{Socket: replayed.socket}, &wiretap{Socket: quiet.socket}, &wiretap{Socket: f.gateways[0]}
	replayed.socket, quiet.socket = at, spared
	far := f.far[replayed.key]
	path := link.Path{Remote: at.LocalAddr()}
	far.SetWay(agent, path)
	f.ok(far.SendControl(probe.Ask(1, 0)))
	for range dataplane.FloodTold {
		copied := append([]byte(nil), agent.sent[0]...)
		f.ok(f.gateways[0].Send(copied, len(copied), path))
	}
	f.until("the copies are dropped", func() bool {
		return f.config.Engine.Stats().Dropped[dataplane.DropReplay] == dataplane.FloodTold
	})
	f.tick()
	want := link.Window{SPI: replayed.pair.In.SPI(), From: 1, To: link.Unbounded}
	if len(at.windows) != 1 || at.windows[0] != want || len(spared.windows) > 0 {
		t.Errorf("told %+v, and the other slice's %+v; want %+v", at.windows, spared.windows, want)
	}
}
