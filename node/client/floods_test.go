package client

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// wiretap keeps what is sent, and what it was told to refuse.
type wiretap struct {
	link.Socket
	sent  [][]byte
	stale []link.Stale
}

func (w *wiretap) Send(b []byte, segment int, path link.Path) error {
	w.sent = append(w.sent, append([]byte(nil), b...))
	return w.Socket.Send(b, segment, path)
}

func (w *wiretap) Refuse(s link.Stale) error { w.stale = append(w.stale, s); return nil }

// TestReplaysAreKeptOut: the socket of the slice that is replayed to is told what
// its window has passed, and no other socket is.
func TestReplaysAreKeptOut(t *testing.T) {
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
	for range dataplane.ReplaysTold {
		copied := append([]byte(nil), agent.sent[0]...)
		f.ok(f.gateways[0].Send(copied, len(copied), path))
	}
	f.until("the copies are dropped", func() bool {
		return f.config.Engine.Stats().Dropped[dataplane.DropReplay] == dataplane.ReplaysTold
	})
	f.tick()
	if want := (link.Stale{SPI: replayed.pair.In.SPI(), Below: 1}); len(at.stale) != 1 || at.stale[0] != want || len(spared.stale) > 0 {
		t.Errorf("told %+v, and the other slice's %+v; want %+v", at.stale, spared.stale, want)
	}
}
