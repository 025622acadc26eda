package arbiter

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/channel"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/said"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// clientStream is one client's connection. What stands below the stream is the loop's.
type clientStream struct {
	*loop.Stream[protocol.Client]
	*introduction // nil once it is welcomed
	request       registry.RequestID
	session       registry.SessionID // zero until Opened
	key           identity.PublicKey // of its session
	attempt       uint64             // protocol.Hello.Attempt
	who           auth.Principal
	entered       identity.NodeID // gateway it came through
	remote        netip.AddrPort
	pace          bucket                 // of what it says; its reader's own
	routed        bool                   // told that replies find their way back
	owes          bool                   // its keys, and an arrival's place waits for them; arrivals'
	weights       []registry.SliceWeight // told last
	offered       []netip.Prefix         // networks, told last
	mark          uint64                 // it may close the connection, and is parked under this; 0: it may not
}

// introduction is what a client says of itself and asks for, until it has its session: it
// stays for days, and its arbiter has many.
type introduction struct {
	hello  mka.Hello
	digest [32]byte              // of the hello as sent
	device registry.DeviceID     // zero: its session key stands for it
	wish   protocol.Hello        // how it wants its packets spread
	suite  esp.Suite             // chosen
	claims string                // to be that user, not proved: for the log alone
	proof  []byte                // of the mesh, to one with a pre-shared key
	proved bool                  // has the session key: its resumption is signed by it
	peer   identity.NodeID       // it wants to reach itself; zero: none
	cert   *registry.Certificate // logged in by; nil: by something else
}

// settled forgets how a client came, but for the mesh's proof, which is its to have.
func (c *clientStream) settled() (proof []byte) {
	if c.introduction != nil {
		proof = c.proof
	}
	c.introduction = nil
	return proof
}

// dismiss says a no as the last word. Who does not hang up is hung up on: a stream
// that is not among the clients is watched by nobody.
func (c *clientStream) dismiss(code, reason string) {
	c.refuse(protocol.Refused{Code: code, Reason: reason})
}

// refuse is dismiss with what to do about it.
func (c *clientStream) refuse(no protocol.Refused) {
	c.Say(&protocol.Client{Refused: &no})
	c.Within(HelloWithin)
}

// errNo is a refusal during introduction.
type errNo protocol.Refused

func (e *errNo) Error() string { return e.Code + ": " + e.Reason }

func no(code, format string, args ...any) error {
	return &errNo{Code: code, Reason: fmt.Sprintf(format, args...)}
}

// serveClient introduces, admits and serves one client connection.
func (a *Arbiter) serveClient(ctx context.Context, raw *tls.Conn, remote netip.AddrPort) {
	conn := channel.Server(raw, a.config.Ledger)
	c := &clientStream{
		Stream:       loop.New(conn, protocol.NewAsked[protocol.Client], loop.Clients(), MaxOutbox),
		introduction: &introduction{}, remote: remote, entered: a.enteredThrough(raw),
	}
	c.Within(HelloWithin)
	var credentials *protocol.Auth
	var err error
	loop.Apart(func() {
		if credentials, err = a.introduce(c, raw); err == nil && c.wish.Channel {
			err = conn.Leave()
		}
	})
	if err != nil {
		defer c.Close()
		// A no, too, is said by who leads, and only the loop knows that.
		if a.ask(ctx, func() {}) == nil {
			a.turnAway(c, err)
		}
		return
	}
	port.Prove(raw)
	over := port.Keep(raw)
	c.Within(0)
	a.arrivals.proved()
	a.must(ctx, clientOpened{c, credentials})
	c.Follow(ctx, func(m *protocol.Client) bool { return a.hear(ctx, c, m) }, func(err error) {
		defer over()
		a.config.Log.Debug("client connection ended", "from", remote, "error", err)
		a.must(ctx, clientClosed{c})
	})
}

// turnAway says a no; a connection that was no client gets no answer.
func (a *Arbiter) turnAway(c *clientStream, err error) {
	var refusal *errNo
	if errors.As(err, &refusal) {
		level := slog.LevelInfo
		if refusal.Wait > 0 {
			level = slog.LevelDebug // whoever guesses decides how often
		}
		who, name := "claims_to_be", c.claims
		if c.who.User != "" { // it has proved it, by a session's key without a word on its name
			who, name = "client", c.who.User
		}
		a.config.Log.Log(context.Background(), level, "client refused", who, name, "from", c.remote, "code", refusal.Code, "reason", refusal.Reason)
		refused := protocol.Refused(*refusal)
		_ = c.Write(&protocol.Client{Refused: &refused}) // it may be gone already
		return
	}
	a.config.Log.Debug("client connection ended early", "from", c.remote, "error", err)
}

// introduce reads M1 and M2 and authenticates, all bound to this connection.
func (a *Arbiter) introduce(c *clientStream, raw *tls.Conn) (*protocol.Auth, error) {
	state := raw.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(mka.ExporterLabel, nil, mka.ExporterSize)
	if err != nil {
		return nil, err
	}
	m, err := c.Read()
	if err != nil {
		return nil, err
	}
	if m.Hello == nil {
		return nil, protocol.ErrFrame
	}
	if c.hello, err = mka.ParseHello(m.Hello.Hello); err != nil {
		return nil, err
	}
	if m.Hello.Beats {
		c.Beats()
	}
	c.request, c.key, c.attempt = c.hello.Request, c.hello.SessionKey, m.Hello.Attempt
	c.digest, c.wish = sha256.Sum256(m.Hello.Hello), *m.Hello
	if !slices.Contains(c.hello.Versions, mka.Version) {
		return nil, no(protocol.RefusedVersion, "no common version; upgrade the older side")
	}
	if m, err = c.Read(); err != nil {
		return nil, err
	}
	if m.Auth == nil {
		return nil, protocol.ErrFrame
	}
	c.claims = m.Auth.User[:min(len(m.Auth.User), auth.MaxUser)]
	if err := a.establish(c, m.Auth, exporter); err != nil {
		return nil, err
	}
	return m.Auth, a.settle(c, m.Auth)
}

// establish checks whose the connection is, and that the session key is its client's. Who
// resumes with the key that the session has proves both by one signature over all that M1's
// covers: a crowd that comes back costs one in place of three. Its device the session knows.
func (a *Arbiter) establish(c *clientStream, m *protocol.Auth, exporter []byte) error {
	resumes := m.Method == protocol.MethodResume
	if !resumes {
		if err := c.possesses(exporter); err != nil {
			return err
		}
	}
	if err := a.authenticate(c, m, auth.Binding{Exporter: [32]byte(exporter), Hello: c.digest}); err != nil {
		return err
	}
	if resumes && !c.proved {
		return c.possesses(exporter)
	}
	return nil
}

// possesses checks M1's own proofs: of the session key, and of the device.
func (c *clientStream) possesses(exporter []byte) error {
	if !mka.VerifyHello(c.key, exporter, c.wish.Hello, c.wish.Signature) {
		return no(protocol.RefusedAuth, "the session key's proof does not hold")
	}
	return c.ofDevice(&c.wish, exporter)
}

type clientOpened struct {
	c    *clientStream
	auth *protocol.Auth
}

// apply asks the arbitrator for a session, or for the old one back. Nothing is done for
// one that has hung up meanwhile: when all come at once it comes again, and the work for
// what it asked before would delay the answer to what it asks then.
func (e clientOpened) apply(a *Arbiter) {
	a.arrivals.note(e.c, a.config.Now()+EnterWithin)
	if !a.admit(e) {
		a.arrivals.in(e.c)
	}
}

// admit reports whether an answer of the arbitrator's is to come.
func (a *Arbiter) admit(e clientOpened) bool {
	select {
	case <-e.c.Done():
		return false
	default:
	}
	c, older := e.c, a.clients[e.c.request]
	if older != nil && older.key == c.key {
		go older.Close() // its client asks again, for it heard no answer there: no goodbye may wait for it here
		a.leave(older)
		older = nil
	}
	switch {
	case len(a.clients) >= MaxClients || older != nil:
		c.dismiss(protocol.RefusedRetry, "too many connections; try again")
		return false
	case e.auth.Method == protocol.MethodResume && a.overtaken(c, e.auth.Session):
		c.dismiss(protocol.RefusedRetry, "a later connection has the session")
		return false
	}
	a.clients[c.request] = c
	if e.auth.Method == protocol.MethodResume {
		a.leaveOlder(e.auth.Session, c)
		a.condemnLost(e.auth)
		a.step(session.Resume{
			Session: e.auth.Session, Request: c.request, Key: c.key,
			Hello: c.digest[:], KeepsSAs: len(e.auth.Held) > 0,
		})
		return true
	}
	var known bool
	if c.peer, known = a.peerOf(c); !known {
		c.dismiss(protocol.RefusedPolicy, fmt.Sprintf("no node %q that this client may reach (see meshcrypt members)", c.hello.Peer))
		return false
	}
	who := c.who.IdentityHash(a.cluster.ID)
	device, track := a.deviceOf(c)
	a.step(session.Open{
		Device: device, Track: track,
		Request: c.request, Client: c.who.User, Bandwidth: c.hello.Bandwidth, Entered: c.entered,
		Key: c.key, Identity: who[:], Hello: c.digest[:], Certificate: c.cert, Suite: uint16(c.suite),
		Mode: c.wish.Mode, Shares: c.wish.Shares, SprayUDP: c.wish.SprayUDP, Peer: c.peer,
	})
	return true
}

// peerOf is the node that a client wants to reach itself: an agent, at an inside
// address that the client may reach; zero for one that wants none.
func (a *Arbiter) peerOf(c *clientStream) (id identity.NodeID, known bool) {
	if c.hello.Peer == "" {
		return id, true
	}
	a.config.Store.View(func(s *registry.State) {
		for _, n := range s.Nodes {
			may := func(p netip.Prefix) bool { return p.Contains(n.Inside) }
			if n.Name == c.hello.Peer && !n.Removed && n.May&registry.RoleAgent != 0 && slices.ContainsFunc(prefixes(s, c.who.User), may) {
				id, known = n.ID, true
			}
		}
	})
	return id, known
}

// condemnLost replaces slices that count as up but that the client, back after
// a while, has no more: its word about them was lost with its connection. One
// that has nothing left gets all of them anew anyway.
func (a *Arbiter) condemnLost(m *protocol.Auth) {
	held := make(map[sliceKey]bool, len(m.Held))
	for _, r := range m.Held {
		held[sliceKey{m.Session, r.Number, r.Epoch}] = true
	}
	var lost []session.SliceSilent
	a.config.Store.View(func(s *registry.State) {
		live := s.Sessions.Get(m.Session)
		if live == nil || len(held) == 0 {
			return
		}
		for _, sl := range live.Slices {
			if sl.State == registry.SliceUp && !held[sliceKey{m.Session, sl.Number, sl.Epoch}] {
				lost = append(lost, session.SliceSilent{Session: m.Session, Number: sl.Number, Epoch: sl.Epoch, Gone: true})
			}
		}
	})
	for _, l := range lost {
		a.step(l)
	}
}

// overtaken says that a client has given this connection up for the one that is served:
// what it said here was on its way when its network failed, and TCP brings it afterwards.
func (a *Arbiter) overtaken(c *clientStream, id registry.SessionID) bool {
	later := a.served[id]
	return later != nil && c.attempt < later.attempt
}

// leaveOlder ends an older connection of a session that comes back. Its client has
// left it, so whoever hears the word is a copy of it: of a machine that was cloned.
func (a *Arbiter) leaveOlder(id registry.SessionID, newer *clientStream) {
	if c := a.served[id]; c != nil && c != newer {
		c.Say(&protocol.Client{Bye: &protocol.Bye{Reason: ReasonElsewhere}})
		c.Within(HelloWithin)
		a.leave(c)
		a.step(session.ClientGone{Request: c.request})
	}
}

// serve makes a session be a client's.
func (a *Arbiter) serve(c *clientStream, id registry.SessionID) {
	c.session = id
	a.served[id] = c
	delete(a.parking.sessions, id)
}

// leave forgets a client's stream.
func (a *Arbiter) leave(c *clientStream) {
	delete(a.clients, c.request)
	a.arrivals.in(c)
	if a.served[c.session] == c {
		delete(a.served, c.session)
	}
}

// ReasonElsewhere tells a client that another process has come back to its session.
const ReasonElsewhere = "it goes on elsewhere: another host has the same session key, as after a machine was cloned; log in anew here"

type clientClosed struct{ c *clientStream }

func (e clientClosed) apply(a *Arbiter) {
	if a.clients[e.c.request] == e.c {
		a.leave(e.c)
		a.parted(e.c)
		a.step(session.ClientGone{Request: e.c.request})
	}
}

// hear gives the loop what a client said, no faster than ClientRate, and of one account
// no more than MaxSaidEach at once: nobody waits long behind one who says too much, and
// he waits himself.
func (a *Arbiter) hear(ctx context.Context, c *clientStream, m *protocol.Client) bool {
	for c.pace.take(a.config.Now(), ClientFree, ClientRate) > 0 {
		select {
		case <-time.After(time.Second / ClientRate):
		case <-ctx.Done():
			return false
		case <-a.over:
			return false
		}
	}
	place := a.accounts.of(c.who.User).places
	select {
	case place <- struct{}{}:
	case <-ctx.Done():
		return false
	case <-a.over:
		return false
	}
	return a.must(ctx, clientSaid{c, m, place})
}

// clientSaid is a message and the place that it takes until it is heard.
type clientSaid struct {
	c     *clientStream
	m     *protocol.Client
	place <-chan struct{}
}

// apply passes on what a client said of its own session, and of no other.
func (e clientSaid) apply(a *Arbiter) {
	if e.place != nil {
		<-e.place
	}
	c := e.c
	if a.clients[c.request] != c || c.session == (registry.SessionID{}) {
		return
	}
	c.mark = 0 // who says anything has not left
	switch m := e.m; {
	case m.Park != nil:
		a.park(c)
	case m.Alive != nil:
		a.takeMeasures(c.session, m.Alive)
	case m.Up != nil:
		a.step(session.SliceUp{Session: c.session, Number: m.Up.Number, Epoch: m.Up.Epoch, Client: true})
	case m.Silent != nil:
		a.logSilent(c.who.User, m.Silent)
		a.step(session.SliceSilent{Session: c.session, Number: m.Silent.Number, Epoch: m.Silent.Epoch})
	case m.Bye != nil:
		a.step(session.End{Session: c.session, Reason: "client disconnected", Bytes: m.Bye.Bytes})
	}
}

// logSilent notes what a client reports; the words are its own, and how often too.
func (a *Arbiter) logSilent(client string, slice *protocol.SliceRef) {
	unsaid, ok := a.accounts.line(client, a.config.Now())
	if !ok {
		return
	}
	a.config.Log.Info("client reports a silent slice", append([]any{"client", client, "slice", slice.Number, "epoch", slice.Epoch,
		"reason", slice.Reason[:min(len(slice.Reason), MaxReason)]}, said.Left(unsaid)...)...)
}

// sendClient tells a client what was decided, with the material of each slice.
func (a *Arbiter) sendClient(action session.SendClient) {
	c := a.clients[action.Request]
	if c == nil {
		return
	}
	offers := a.takeOffers(action.Session, action.Slices)
	switch action.What {
	case session.Opened:
		a.serve(c, action.Session)
		c.Say(&protocol.Client{Welcome: a.welcome(c, action.Session, offers)})
		a.arrivals.welcomed(c, a.config.Now())
		a.pushSessions(action.Session)
		a.config.Log.Info("client welcomed", "client", c.who.User, "from", c.remote, "new_slices", len(offers), "absorbed", action.Absorbed)
	case session.Granted:
		for i := range offers {
			c.Say(&protocol.Client{Offer: &offers[i]})
		}
	case session.Parked:
		a.letGo(c)
	case session.Ended:
		c.Say(&protocol.Client{Bye: &protocol.Bye{Reason: action.Reason}})
	}
}

func (a *Arbiter) welcome(c *clientStream, id registry.SessionID, offers []protocol.SliceOffer) *protocol.Welcome {
	w := &protocol.Welcome{Session: id, Slices: offers, Proof: c.settled(), Parks: true}
	a.config.Store.View(func(s *registry.State) {
		live := s.Sessions.Get(id)
		if live == nil {
			return
		}
		w.Leases, w.Mode, w.SprayUDP, w.Headless = live.Leases, live.Mode, live.SprayUDP, s.Headless()
		w.Update = a.offer(s, c, live)
	})
	return w
}

// offer notes what a client is told that it may reach, and gives all that it is to know
// of the mesh.
func (a *Arbiter) offer(s *registry.State, c *clientStream, live *registry.Session) protocol.Update {
	c.offered = Reach(s, live)
	return a.update(s, c)
}

func (a *Arbiter) update(s *registry.State, c *clientStream) protocol.Update {
	return protocol.Update{
		Gateways: a.gateways(s, c.entered), Prefixes: c.offered,
		DNS: s.Policy.DNS, Search: s.Policy.Search,
	}
}

// refuse answers a request that gets no session.
func (a *Arbiter) refuse(action session.Refuse) {
	c := a.clients[action.Request]
	if c == nil {
		return
	}
	a.arrivals.in(c)
	codes := map[session.Code]string{
		session.Denied:      protocol.RefusedCapacity,
		session.Full:        protocol.RefusedCapacity,
		session.TooMany:     protocol.RefusedPolicy,
		session.Forbidden:   protocol.RefusedPolicy,
		session.Unavailable: protocol.RefusedRetry,
		session.Gone:        protocol.RefusedSession,
	}
	const end = "end one: meshcrypt disconnect where it runs, or meshcrypt sessions kick ID on a member"
	next := map[session.Code]string{
		session.Full:    "meshcrypt sessions on a member lists who has them, meshcrypt policy show how many are free",
		session.TooMany: end,
	}
	wait := int64((action.Wait + time.Second - 1) / time.Second)
	if wait > 0 {
		next[action.Code] = fmt.Sprintf("sleep %d, and the same command; or %s", wait, end)
	}
	a.config.Log.Info("session refused", "client", c.who.User, "code", action.Code, "reason", action.Reason)
	c.refuse(protocol.Refused{Code: codes[action.Code], Reason: action.Reason, Next: next[action.Code], Wait: wait})
}

// tellClient tells a client what it does not know: once, that an egress has its route,
// so that replies find their way back; its weights and networks whenever they changed.
// One that came back to this arbiter is told once.
func (a *Arbiter) tellClient(s *registry.State, c *clientStream, live *registry.Session) {
	weights := weightsOf(live)
	if len(weights) > 0 && !c.routed {
		c.routed = true
		a.arrivals.in(c)
		c.Say(&protocol.Client{Up: &protocol.SliceRef{Number: weights[0].Number, Epoch: weights[0].Epoch}})
	}
	if len(weights) > 0 && !slices.Equal(weights, c.weights) {
		c.weights = weights
		c.Say(&protocol.Client{Weights: &protocol.Weights{Slices: weights}})
	}
	if !slices.Equal(c.offered, Reach(s, live)) {
		c.Say(&protocol.Client{Update: new(a.offer(s, c, live))})
	}
}

// weightsOf are those of the slices that are up.
func weightsOf(live *registry.Session) (weights []registry.SliceWeight) {
	for _, sl := range live.Slices {
		if sl.State == registry.SliceUp {
			weights = append(weights, registry.SliceWeight{Number: sl.Number, Epoch: sl.Epoch, Weight: sl.Weight})
		}
	}
	return weights
}
