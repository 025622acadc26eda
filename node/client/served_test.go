package client

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/mesh/link"
	"github.com/meshcrypt/meshcrypt/mesh/link/framed"
	"github.com/meshcrypt/meshcrypt/node/channel"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// arbiterAt is an arbiter behind real TLS that the client trusts. It serves one
// connection: takes the login, says its lines, and ends it.
func (f *fixture) arbiterAt(lines ...*protocol.Client) (gateway netip.AddrPort, heard <-chan []*protocol.Client) {
	f.Helper()
	return f.arbiterThat(func(*protocol.Conn[protocol.Client]) {}, lines...)
}

// silentArbiter is one that says its lines, beats once or not, and then nothing more.
func (f *fixture) silentArbiter(beats bool, lines ...*protocol.Client) (gateway netip.AddrPort, heard <-chan []*protocol.Client) {
	f.Helper()
	return f.arbiterThat(func(conn *protocol.Conn[protocol.Client]) {
		if beats && conn.Beat() != nil {
			return
		}
		for {
			if _, err := conn.Next(); err != nil {
				return
			}
		}
	}, lines...)
}

// arbiterThat is one that does something before it ends the connection.
func (f *fixture) arbiterThat(last func(*protocol.Conn[protocol.Client]), lines ...*protocol.Client) (gateway netip.AddrPort, heard <-chan []*protocol.Client) {
	f.Helper()
	mesh := identity.ClusterID{1}
	ours := newCertified(f.T, mesh, time.Now())
	f.config.Profile.CAHash, f.config.Profile.Cluster = ours.Hash(), mesh
	f.config.Suites = []esp.Suite{esp.AES256GCM}
	f.config.Login = func(Binding) (Login, error) { return Login{Auth: protocol.Auth{Method: protocol.MethodPassword}}, nil }
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	f.ok(err)
	f.Cleanup(func() { listener.Close() })
	all := make(chan []*protocol.Client, 1)
	go func() {
		defer close(all)
		raw, err := listener.Accept()
		if err != nil {
			return
		}
		defer raw.Close()
		raw.SetDeadline(time.Now().Add(hangLimit))
		secure := channel.Server(tls.Server(channel.Below(raw), pki.Server(port.ALPNClient, func() *tls.Certificate { return ours.arbiter }, nil)), nil)
		defer secure.Close()
		conn := protocol.NewConn[protocol.Client](secure)
		var said []*protocol.Client
		for range 2 {
			m, err := conn.Read()
			if err != nil {
				return
			}
			said = append(said, m)
		}
		if said[0].Hello != nil && said[0].Hello.Channel && !f.older && secure.Leave() != nil {
			return
		}
		for _, m := range lines {
			if conn.Write(m) != nil {
				return
			}
		}
		all <- said
		last(conn)
	}()
	return listener.Addr().(*net.TCPAddr).AddrPort(), all
}

// TestConnectionIsServedToItsEnd: all that the arbiter says reaches the loop, in its
// order; the end of the connection is the last of it, and leaves what resumes the session.
func TestConnectionIsServedToItsEnd(t *testing.T) {
	f := newFixture(t)
	session := [16]byte{7}
	gateway, heard := f.arbiterAt(
		&protocol.Client{Welcome: &protocol.Welcome{Session: session}},
		&protocol.Client{Up: &protocol.SliceRef{Number: 1}},
		&protocol.Client{Up: &protocol.SliceRef{Number: 2}},
	)
	ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
	defer cancel()
	next, err := f.serveControl(ctx, gateway, nil, &patience{})
	if next == nil || next.welcome.Session != session || err != io.EOF {
		t.Fatalf("resumes by %+v, %v", next, err)
	}
	if said := <-heard; len(said) != 2 || said[0].Hello == nil || said[1].Auth == nil {
		t.Errorf("said %+v", said)
	}
	var numbers []uint8
	welcomes, lost := 0, 0
	for len(f.events) > 0 {
		switch e := (<-f.events).(type) {
		case welcomed:
			welcomes++
		case controlReceived:
			numbers = append(numbers, e.m.Up.Number)
		case controlLost:
			lost++
		}
	}
	if welcomes != 1 || len(numbers) != 2 || numbers[0] != 1 || numbers[1] != 2 || lost != 1 {
		t.Errorf("%d welcomes, messages %v, %d ends", welcomes, numbers, lost)
	}
}

// counted is a connection whose writes are counted.
type counted struct {
	net.Conn
	writes *atomic.Int32
}

func (c counted) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// TestLoginIsFewWrites: each is a segment, which gateway, trunk and arbiter handle by itself. M1
// and M2 are one, and the end of TLS goes with what is said next, here the end of all.
func TestLoginIsFewWrites(t *testing.T) {
	f := newFixture(t)
	gateway, heard := f.arbiterAt(&protocol.Client{Welcome: &protocol.Welcome{}})
	var writes atomic.Int32
	f.config.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		raw, err := (&net.Dialer{}).DialContext(ctx, network, address)
		return counted{raw, &writes}, err
	}
	ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
	defer cancel()
	if _, err := f.serveControl(ctx, gateway, nil, &patience{}); err != io.EOF {
		t.Fatal(err)
	}
	if said := <-heard; len(said) != 2 || said[0].Hello == nil || said[1].Auth == nil {
		t.Errorf("said %+v", said)
	}
	if n := writes.Load(); n != 4 { // hello of TLS, its end of the handshake, M1 and M2, the end
		t.Errorf("%d writes", n)
	}
}

// TestByeWaitsForItsAnswer: the arbiter's goodbye, or the end of the connection, ends the
// wait, and nothing else that is under way: another connection's end, another word.
func TestByeWaitsForItsAnswer(t *testing.T) {
	for name, answer := range map[string]func(*controlState) event{
		"the arbiter's goodbye": func(s *controlState) event {
			return controlReceived{s, &protocol.Client{Bye: &protocol.Bye{}}}
		},
		"the connection's end": func(s *controlState) event { return controlLost{s} },
	} {
		f := newFixture(t)
		other := f.connect()
		s := f.connect()
		said := make(chan *protocol.Client, 1)
		go func() {
			m, _ := protocol.NewConn[protocol.Client](f.peer).Read()
			said <- m
		}()
		f.events <- controlLost{other}
		f.events <- controlReceived{other, &protocol.Client{Bye: &protocol.Bye{}}}
		f.events <- controlReceived{s, &protocol.Client{Up: &protocol.SliceRef{}}}
		f.events <- answer(s)
		f.events <- copied{} // comes later than the answer
		f.sayBye(nil)
		if m := <-said; m == nil || m.Bye == nil {
			t.Errorf("%s: said %+v", name, m)
		}
		if len(f.events) != 1 {
			t.Errorf("%s: %d events are left, want the one that came after it", name, len(f.events))
		}
	}
}

// TestDoubtAndWitness: an answer is late, and a witness too old, after half of the
// silence that is allowed, at the very moment not yet.
func TestDoubtAndWitness(t *testing.T) {
	const start, half = time.Hour, 150 * ms
	p := pulse{waiting: start, heardAt: start}
	for _, c := range []struct {
		at             time.Duration
		doubt, witness bool
	}{
		{start, false, true}, {start + half, false, true}, {start + half + 1, true, false},
	} {
		if doubt, witness := p.doubtful(c.at), p.witness(c.at); doubt != c.doubt || witness != c.witness {
			t.Errorf("after %v: doubt %v, witness %v", c.at-start, doubt, witness)
		}
	}
	if p.waiting = 0; p.doubtful(start + time.Minute) {
		t.Error("in doubt though nothing was asked")
	}
}

// TestStreamIsAGateways: datagrams go by TLS to whom the pinned CA made a gateway of this
// mesh, to nobody else, and who does not answer gives an error.
func TestStreamIsAGateways(t *testing.T) {
	mesh := identity.ClusterID{1}
	ours, other := newCertified(t, mesh, time.Now()), newCertified(t, mesh, time.Now())
	for name, c := range map[string]struct {
		shown *tls.Certificate
		sound bool
	}{
		"a gateway": {ours.node, true}, "a gateway of another CA": {other.node, false}, "nobody": {nil, false},
	} {
		f := newFixture(t)
		f.config.Profile.CAHash, f.config.Profile.Cluster = ours.Hash(), mesh
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		f.ok(err)
		at, heard := listener.Addr().(*net.TCPAddr).AddrPort(), make(chan []byte, 1)
		if c.shown == nil {
			f.ok(listener.Close())
		}
		go func() {
			defer close(heard)
			raw, err := listener.Accept()
			if err != nil {
				return
			}
			raw.SetDeadline(time.Now().Add(hangLimit))
			end := framed.New(tls.Server(raw, pki.Server(port.ALPNDatagram, func() *tls.Certificate { return c.shown }, nil)), at)
			defer end.Close()
			b := make([]byte, link.MaxTrain)
			if got, err := end.Receive(b); err == nil {
				heard <- b[:got.Len]
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
		stream, err := f.openStream(ctx, at)
		cancel()
		if (err == nil) != c.sound || (stream != nil) != c.sound {
			t.Fatalf("%s: %v", name, err)
		}
		if stream != nil {
			f.ok(stream.Send([]byte{1, 2}, 2, link.Path{Remote: at}))
		}
		if got := <-heard; (len(got) == 2) != c.sound {
			t.Errorf("%s heard %x", name, got)
		}
		if stream != nil {
			f.ok(stream.Close())
		}
		listener.Close()
	}
}

// TestStreamOfAnEarlierLife: what was begun before this machine was copied has keys that
// the copy has, too (I2), so it is not used.
func TestStreamOfAnEarlierLife(t *testing.T) {
	f := newFixture(t)
	mesh := identity.ClusterID{1}
	ours := newCertified(t, mesh, time.Now())
	f.config.Profile.CAHash, f.config.Profile.Cluster = ours.Hash(), mesh
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	f.ok(err)
	defer listener.Close()
	go func() {
		raw, err := listener.Accept()
		if err != nil {
			return
		}
		f.life.end() // the dialing has begun
		secure := tls.Server(raw, pki.Server(port.ALPNDatagram, func() *tls.Certificate { return ours.node }, nil))
		defer secure.Close()
		secure.SetDeadline(time.Now().Add(hangLimit))
		secure.Read(make([]byte, 1))
	}()
	ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
	defer cancel()
	stream, err := f.openStream(ctx, listener.Addr().(*net.TCPAddr).AddrPort())
	if !errors.Is(err, errCopied) || stream != nil {
		t.Errorf("%v, %v", stream, err)
	}
}

// TestSilentArbiterIsLeft: one that beat, and one of a build that says it is alive
// instead, after a time of silence each; a beat counts as word, and is no message.
func TestSilentArbiterIsLeft(t *testing.T) {
	for name, c := range map[string]struct {
		lines []*protocol.Client
		beats bool
		after time.Duration
	}{
		"one that beats": {nil, true, loop.ClientSilence},
		"an older build": {[]*protocol.Client{{Alive: &protocol.Alive{}}}, false, AliveWithin},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			gateway, heard := f.silentArbiter(c.beats, append([]*protocol.Client{{Welcome: &protocol.Welcome{}}}, c.lines...)...)
			ctx, cancel := context.WithTimeout(t.Context(), hangLimit)
			defer cancel()
			began := time.Now()
			next, err := f.serveControl(ctx, gateway, nil, &patience{})
			if next == nil || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) < c.after {
				t.Errorf("ended after %v: %v", time.Since(began), err)
			}
			if said := <-heard; !said[0].Hello.Beats {
				t.Error("the arbiter does not hear that it may beat")
			}
			beats, words := 0, 0
			for len(f.events) > 0 {
				switch (<-f.events).(type) {
				case controlBeat:
					beats++
				case controlReceived:
					words++
				}
			}
			if (beats > 0) != c.beats || words != len(c.lines) {
				t.Errorf("%d beats and %d words", beats, words)
			}
		})
	}
}
