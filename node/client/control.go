package client

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/channel"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Binding is what a login proof covers: this connection and this hello.
type Binding = auth.Binding

// Refusal is an arbiter's no, with the code of protocol.Refused.
type Refusal struct{ protocol.Refused }

// Error gives the arbiter's reason.
func (r *Refusal) Error() string { return "the mesh refused: " + r.Reason }

// controlState is the present connection to the arbiter.
type controlState struct {
	*loop.Stream[protocol.Client]
	raw     net.Conn
	arbiter identity.PublicKey
	gateway netip.AddrPort
	hello   []byte
	since   time.Duration  // when it was welcomed; the loop's
	up      bool           // by it the arbiter said that replies find their way back; the loop's
	alive   protocol.Alive // said last; the loop's
}

// newControl makes a connection of a line to the arbiter.
func newControl(raw net.Conn, arbiter identity.PublicKey, gateway netip.AddrPort, hello []byte) *controlState {
	pace := loop.Clients()
	pace.Patience = AliveWithin
	return &controlState{
		Stream: loop.New(raw, protocol.NewConn[protocol.Client], pace, MaxOutbox),
		raw:    raw, arbiter: arbiter, gateway: gateway, hello: hello,
	}
}

// leave says goodbye as the last word.
func (s *controlState) leave(bye protocol.Bye) error {
	s.Within(ByeWithin)
	return s.Write(&protocol.Client{Bye: &bye})
}

// say sends to the arbiter if it is heard, and goes to it if it is parked; slices' states
// are said again at each resumption.
func (c *Client) say(all ...*protocol.Client) {
	switch {
	case len(all) == 0:
	case c.control != nil:
		c.control.Say(all...)
	default:
		c.come("it has something to say")
	}
}

// keepControl connects, serves and reconnects until ctx ends or the arbiter
// says a no that another attempt would not change.
func (c *Client) keepControl(ctx context.Context) {
	var resume *resumption
	pace, gateway := newBackoff(c.config.Random), 0
	first := &patience{since: c.config.Now()}
	for tries := 1; ctx.Err() == nil; tries++ {
		to := c.gateways.at(gateway)
		if c.stuck.Load() {
			pace.press()
		}
		c.queues = pace.presses
		c.nextWait.Store(int64(pace.expected()))
		c.keepQuiet(pace.kept)
		next, err := c.serveControl(ctx, to, resume, first)
		c.appointed.Store(nil)
		pace.ended(c.config.Now(), next, err)
		if next != nil {
			resume = next
		}
		if final := finalRefusal(err, resume); final != nil {
			c.fail(final)
			return
		}
		if resume == nil {
			if first.out(c.config.Now(), err, tries, c.gateways.count()) {
				c.fail(fmt.Errorf("%w: %w", ErrUnreachable, err))
				return
			}
			c.askAnew(err)
			c.waiting(first, err)
			first.appointed(pace.told)
		}
		c.config.Log.Debug("control connection ended", "gateway", to, "error", err)
		if next != nil && errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			c.config.Log.Warn("the arbiter is silent; connecting through another gateway", "gateway", to)
			if pace.atOnce(elsewhere) {
				gateway++
				continue
			}
		}
		if c.rest(ctx) {
			gateway = int(c.parking.through.Load())
			pace.atOnce(again) // it lasted, or it was not let go
			continue
		}
		if c.pause(ctx, &pace) {
			gateway++
		}
	}
}

// pause waits before the next attempt, and reports whether that goes through another
// gateway.
func (c *Client) pause(ctx context.Context, pace *backoff) (other bool) {
	other = pace.told == 0 || pace.toldEnough() // who has an appointment has it where it was given
	defer func() { pace.told = 0 }()
	wait := pace.next()
	now := c.config.Now()
	turn := appointment{since: now, until: now + wait, again: pace.often > 1}
	if pace.told > 0 {
		c.appointed.Store(&turn)
		defer c.appointed.Store(nil)
	}
	round, rest := pace.rounds(wait)
	late, due := time.NewTimer(round), now+round
	defer late.Stop()
	for {
		if pace.told > 0 && c.stuck.Load() && pace.press() {
			return other
		}
		select {
		case <-ctx.Done():
			return other
		case <-late.C:
			if rest == 0 || c.onLast.Load() {
				pace.kept = pace.told > 0
				return other
			}
			round, rest = pace.rounds(rest)
			due = c.config.Now() + round
			late.Reset(round)
		case why := <-c.redial:
			if pace.atOnce(why) {
				return why == elsewhere
			}
			if pace.told > 0 { // its turn stands, and where; a timer stands still while the host sleeps, its turn does not
				late.Reset(turn.until - c.config.Now())
				continue
			}
			if other = why == elsewhere; why == again { // it has no keys, and nothing passes until then
				rest = 0
				due = min(due, c.config.Now()+pace.jittered(RedialMax)) // said again and again it must not put it off
				late.Reset(due - c.config.Now())
			}
		}
	}
}

// finalRefusal picks out what no retry will change.
func finalRefusal(err error, resume *resumption) error {
	if own := (loginError{}); errors.As(err, &own) {
		return own.error
	}
	if errors.Is(err, auth.ErrMesh) {
		return err
	}
	var refusal *Refusal
	switch {
	case !errors.As(err, &refusal) || refusal.Code == protocol.RefusedRetry:
		return nil
	case refusal.Code != protocol.RefusedSession:
		return refusal
	case resume != nil:
		return over{refusal.Reason}
	}
	return nil // what an earlier try opened is over, and nobody had it
}

// over is the end of a session, in the arbiter's words.
type over struct{ reason string }

func (o over) Error() string { return ErrEnded.Error() + ": " + o.reason }

// Is has it be ErrEnded, and ErrRevoked for the reasons that the registry has for that.
func (o over) Is(target error) bool {
	switch strings.TrimPrefix(o.reason, protocol.ItEnded) {
	case registry.ReasonRevoked, registry.ReasonCertificate, registry.ReasonAuthority:
		return target == ErrEnded || target == ErrRevoked
	}
	return target == ErrEnded
}

// askAnew makes another request of a first login that was refused: what the arbiter opened
// for this one, if anything, is over, and it would go on to say so.
func (c *Client) askAnew(err error) {
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		rand.Read(c.request[:])
	}
}

// resumption is what the next connection needs to find the session again.
type resumption struct {
	welcome protocol.Welcome
	since   time.Duration // when it was welcomed
}

// serveControl runs one connection from dial to end. It returns a resumption
// once the arbiter has welcomed the client.
func (c *Client) serveControl(ctx context.Context, gateway netip.AddrPort, resume *resumption, first *patience) (*resumption, error) {
	life := c.life.present()
	c.attempts++
	s, binding, err := c.dial(ctx, gateway, resume)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if !c.life.enter(s.raw, life) {
		return nil, errCopied
	}
	defer c.life.leave(s.raw)
	login, err := c.login(ctx, binding, resume, first)
	if err != nil {
		return nil, err
	}
	welcome, err := c.introduce(ctx, s, binding, login)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil { // the end came meanwhile
		// If it does not arrive, the session ends by its headless time.
		_ = s.leave(protocol.Bye{Reason: "client disconnected"})
		return nil, ctx.Err()
	}
	c.must(ctx, welcomed{s, *welcome})
	next := &resumption{*welcome, c.config.Now()}
	s.OnBeat = func() { c.must(ctx, controlBeat{s}) }
	err = s.Run(ctx, func(m *protocol.Client) bool {
		c.must(ctx, controlReceived{s, m})
		return true
	})
	c.must(ctx, controlLost{s})
	return next, err
}

// dial opens TLS to the arbiter through a gateway, or through one of the other
// family when that does not answer. A first login goes on to the next ones: nobody has
// told it yet which are alive.
func (c *Client) dial(ctx context.Context, gateway netip.AddrPort, resume *resumption) (*controlState, Binding, error) {
	ctx, cancel := context.WithTimeout(ctx, AttemptWithin)
	defer cancel()
	c.dialing.Store(&attempt{gateway, cancel})
	ways := c.gateways.ways(gateway)
	look := newSearch(c, len(ways))
	if resume == nil {
		ways = c.gateways.further(ways)
	}
	r, err := loop.Race(ctx, ways, MaxGateways, DialStagger, look.reach, func(late reached) { late.raw.Close() })
	if err != nil {
		return nil, Binding{}, err
	}
	state := r.raw.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(mka.ExporterLabel, nil, mka.ExporterSize)
	if err != nil {
		r.raw.Close()
		return nil, Binding{}, fmt.Errorf("tls exporter: %w", err)
	}
	hello := c.hello(resume)
	s := newControl(channel.Client(r.raw, c.config.Ledger), r.peer.Key, r.gateway, hello.Marshal())
	return s, Binding{Exporter: [32]byte(exporter), Hello: sha256.Sum256(s.hello)}, nil
}

// hello is M1 of one connection.
func (c *Client) hello(resume *resumption) mka.Hello {
	h := mka.Hello{
		Versions: []uint16{mka.Version}, Suites: c.config.Suites,
		Request: c.request, SessionKey: c.key.Public(), Bandwidth: c.config.Bandwidth,
		Peer: c.config.Peer,
	}
	if resume != nil {
		rand.Read(h.Request[:])
	}
	rand.Read(h.Nonce[:])
	return h
}

// mark keeps the control connection out of the tunnel.
func (c *Client) mark(_, _ string, raw syscall.RawConn) (err error) {
	if c.config.Mark == 0 {
		return nil
	}
	controlErr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, c.config.Mark)
	})
	return errors.Join(err, controlErr)
}

// login makes M2: of the session that is to be resumed, or of the user, who may
// take a while to answer a prompt.
func (c *Client) login(ctx context.Context, binding Binding, resume *resumption, first *patience) (Login, error) {
	if resume != nil {
		return Login{Auth: protocol.Auth{
			Method: protocol.MethodResume, Session: resume.welcome.Session, Held: c.heldSlices(ctx),
			Proof: auth.SignResume(c.key, binding, resume.welcome.Session),
		}}, nil
	}
	asked := c.config.Now()
	login, err := c.config.Login(binding)
	first.since += c.config.Now() - asked
	if err != nil {
		return login, loginError{err}
	}
	return login, nil
}

// introduce says M1 and M2 and waits for M3: as long as the arbiter beats it is at work on
// it, and whoever hangs up throws that away, to ask for it again.
func (c *Client) introduce(ctx context.Context, s *controlState, binding Binding, login Login) (*protocol.Welcome, error) {
	s.Within(WelcomeWithin)
	stop := context.AfterFunc(ctx, func() { s.Within(time.Nanosecond) })
	defer func() {
		stop()
		s.Within(0)
	}()
	hello := protocol.Hello{Beats: true, Channel: true, Attempt: c.attempts, Mode: c.config.Mode, Shares: c.config.Shares, SprayUDP: c.config.SprayUDP,
		Hello: s.hello, Signature: mka.SignHello(c.key, binding.Exporter[:], s.hello)}
	if c.config.Device != (mka.DeviceID{}) {
		hello.Device, hello.DeviceProof = c.config.Device[:], mka.SignDevice(c.key, binding.Exporter[:], s.hello, c.config.Device)
	}
	if err := s.Write(&protocol.Client{Hello: &hello}, &protocol.Client{Auth: &login.Auth}); err != nil {
		return nil, err
	}
	m, err := s.Read()
	switch {
	case err != nil:
		return nil, err
	case m.Refused != nil:
		return nil, &Refusal{*m.Refused}
	case m.Welcome == nil:
		return nil, fmt.Errorf("%w: the arbiter answered with something else than a welcome", protocol.ErrFrame)
	}
	if login.Confirm != nil {
		if err := login.Confirm(m.Welcome.Proof); err != nil {
			return nil, err
		}
	}
	return m.Welcome, nil
}

// heldSlices asks the loop which slices live.
func (c *Client) heldSlices(ctx context.Context) []protocol.SliceRef {
	held := make(chan []protocol.SliceRef, 1)
	c.must(ctx, heldQuestion{held})
	select {
	case refs := <-held:
		return refs
	case <-ctx.Done():
		return nil
	}
}

type heldQuestion struct{ answer chan []protocol.SliceRef }

func (q heldQuestion) apply(c *Client) {
	var refs []protocol.SliceRef
	for _, s := range c.inOrder() {
		if s.usable() {
			refs = append(refs, protocol.SliceRef{Number: s.key.number, Epoch: s.key.epoch})
		}
	}
	q.answer <- refs
}
