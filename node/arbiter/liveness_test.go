package arbiter

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// heartbeat is a node's end of a stream, which says a hello and then no message.
type heartbeat struct {
	conn  *protocol.Conn[protocol.Node]
	beats int           // heard until the end
	lived time.Duration // until the arbiter ended it
	ended chan struct{}
}

// beating opens a stream of a member that says whether it knows beats.
func (f *fixture) beating(name string, knows bool) *heartbeat {
	f.Helper()
	j := f.joiner(name)
	cert := f.join(j, f.token(dataRoles, 1, 3600), nil).Reply.Certificate
	raw, err := f.dial(port.ALPNStream, pki.Certificate(j.key, cert, f.authority.Certificate()))
	f.ok(err)
	h := &heartbeat{conn: protocol.NewStream(raw), ended: make(chan struct{})}
	f.ok(h.conn.Write(&protocol.Node{Hello: &protocol.NodeHello{Version: "test", Beats: knows}}))
	began := time.Now()
	go func() {
		defer close(h.ended)
		for {
			m, err := h.conn.Next()
			if err != nil {
				h.lived = time.Since(began)
				return
			}
			if m == nil {
				h.beats++
			}
		}
	}()
	return h
}

// TestSilentNodeIsDown: a node that beat and is silent loses its stream, as one without
// power, or whose process is stopped. One of a build that knows no beat is sent none and
// has its time, and one that beats stays though it says nothing.
func TestSilentNodeIsDown(t *testing.T) {
	f := newFixture(t).serve()
	alive, silent, older := f.beating("n2", true), f.beating("n3", true), f.beating("n4", false)
	pulse := time.NewTicker(loop.NodeEvery / 2)
	defer pulse.Stop()
	for ended := false; !ended; {
		select {
		case <-pulse.C:
			f.ok(alive.conn.Beat())
		case <-older.ended:
			ended = true
		case <-time.After(hangLimit):
			t.Fatal("a silent node keeps its stream")
		}
	}
	select {
	case <-silent.ended:
	default:
		t.Fatal("a node that knows beats may be silent for longer than an older one")
	}
	select {
	case <-alive.ended:
		t.Fatalf("a node that beats lost its stream after %v", alive.lived)
	default:
	}
	if silent.lived < loop.NodeSilence || older.lived < loop.NodePatience {
		t.Errorf("the ends came after %v and %v", silent.lived, older.lived)
	}
	if silent.beats == 0 || older.beats != 0 {
		t.Errorf("the arbiter beat %d times to one that knows it, and %d to one that does not", silent.beats, older.beats)
	}
}

// TestStoppedArbiterDecidesNothing: a process that stood still for so long that others
// may have elected another proves that it leads before it does anything, and says nothing
// meanwhile, not even a no.
func TestStoppedArbiterDecidesNothing(t *testing.T) {
	f := newFixture(t).serve()
	before := f.depose(consensus.ErrNotLeader)
	f.now.Add(int64(20 * time.Second)) // more than one AdvanceTick is due
	conn := f.wrongLogin()
	f.ok(conn.raw.SetReadDeadline(time.Now().Add(10 * TickEvery)))
	if m, err := conn.Read(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it answers though it may be deposed: %+v, %v", m, err)
	}
	if after := f.depose(nil); after != before {
		t.Errorf("%d commands were proposed", after-before)
	}
	f.ok(conn.raw.SetReadDeadline(time.Now().Add(hangLimit)))
	if m, err := conn.Read(); err != nil || m.Refused == nil {
		t.Errorf("it leads, and answers %+v, %v", m, err)
	}
}

// TestOverIsSaidOnce: an arbiter whose term ended while it stood still says that it ended, and
// not for each thing that waited that it does not know whether it did.
func TestOverIsSaidOnce(t *testing.T) {
	f := newFixture(t)
	a := f.still()
	var said bytes.Buffer
	a.config.Log = slog.New(slog.NewTextHandler(&said, nil))
	f.depose(consensus.ErrNotLeader)
	f.now.Add(int64(20 * time.Second))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if a.leadsStill(ctx) || strings.Contains(said.String(), "does not know") {
		t.Errorf("it leads, or says %q", &said)
	}
}

// depose has no barrier pass but with nil, and says how many commands were committed.
func (f *fixture) depose(why error) uint64 {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	f.store.deposed = why
	return f.store.index
}

// stranger is a client's connection that is not let in.
type stranger struct {
	*protocol.Conn[protocol.Client]
	raw *tls.Conn
}

// wrongLogin connects as a client that nobody knows.
func (f *fixture) wrongLogin() stranger {
	f.Helper()
	key, err := identity.NewKey(rand.Reader)
	f.ok(err)
	hello := mka.Hello{
		Versions: []uint16{mka.Version}, Suites: []esp.Suite{esp.AES256GCM}, Request: [16]byte{1}, SessionKey: key.Public(),
	}.Marshal()
	raw, err := f.dial(port.ALPNClient, nil)
	f.ok(err)
	state := raw.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(mka.ExporterLabel, nil, mka.ExporterSize)
	f.ok(err)
	s := stranger{protocol.NewConn[protocol.Client](raw), raw}
	f.ok(s.Write(&protocol.Client{Hello: &protocol.Hello{Hello: hello, Signature: mka.SignHello(key, exporter, hello)}}))
	f.ok(s.Write(&protocol.Client{Auth: &protocol.Auth{Method: protocol.MethodPassword, User: "nobody"}}))
	return s
}
