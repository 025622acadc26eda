package arbiter

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/said"
	"github.com/meshcrypt/meshcrypt/node/slots"
)

// violationLogin is the reason under which wrong logins stand among a gateway's
// violations.
const violationLogin = "wrong-login"

// authenticate is M2, for as many tries as guesses allow. Whether a client is
// revoked is said to nobody who has not proved to be that client.
func (a *Arbiter) authenticate(c *clientStream, m *protocol.Auth, binding auth.Binding) error {
	charges, wait := a.guesses.attempt(m, c.remote.Addr(), a.namedBy(c), a.config.Now())
	if wait > 0 {
		a.report(wrongLogin{user: m.User, source: c.remote.Addr(), through: c.entered, refused: true})
		return tooMany(wait)
	}
	err := a.prove(c, m, binding)
	if err != nil && !errors.As(err, new(errOver)) {
		a.report(wrongLogin{user: m.User, source: c.remote.Addr(), through: c.entered, count: charges[0].before.wrong + 1})
		return err
	}
	a.guesses.right(charges)
	if wait := a.accounts.enter(c.who.User, a.config.Now()); wait > 0 {
		return a.tooOften(c.who.User, wait)
	}
	if err != nil {
		return err
	}
	revoked := false
	a.config.Store.View(func(s *registry.State) {
		revoked = s.Clients.Get(c.who.User) != nil && s.Clients.Get(c.who.User).Revoked
	})
	if revoked {
		return no(protocol.RefusedPolicy, "this client is revoked")
	}
	return nil
}

// namedBy is the node whose word the client's address is; zero where it came to this
// one itself.
func (a *Arbiter) namedBy(c *clientStream) (via identity.NodeID) {
	if c.entered != a.config.Trust.Key.ID() {
		via = c.entered
	}
	return via
}

// tooMany says how long to wait; an older client shows the reason alone.
func tooMany(wait time.Duration) error {
	seconds := int64((wait + time.Second - 1) / time.Second)
	return &errNo{
		Code: protocol.RefusedAuth, Wait: seconds,
		Reason: fmt.Sprintf("too many wrong logins, wait %d s", seconds),
	}
}

// tooOften refuses one whose logins are right and very many. Its clients try again.
func (a *Arbiter) tooOften(user string, wait time.Duration) error {
	if unsaid, ok := a.accounts.line(user, a.config.Now()); ok {
		a.config.Log.Warn("very many logins of one client, slowed down", append([]any{"client", user}, said.Left(unsaid)...)...)
	}
	seconds := int64((wait + time.Second - 1) / time.Second)
	return &errNo{
		Code: protocol.RefusedRetry, Wait: seconds,
		Reason: fmt.Sprintf("very many logins of %s, wait %d s", user, seconds),
		Next:   fmt.Sprintf("sleep %d, and the same command; meshcrypt sessions on a member lists who is there", seconds),
	}
}

// wrongLogin is one that was not let in, or not even tried.
type wrongLogin struct {
	user    string
	source  netip.Addr
	through identity.NodeID
	count   int // of this user from this source
	refused bool
}

// report hands it to the loop. In a flood some are lost, for nobody is to wait.
func (a *Arbiter) report(w wrongLogin) {
	select {
	case a.events <- w:
	default:
	}
}

// apply records a wrong login. A name that is no client's is written nowhere:
// whoever guesses chooses it.
func (w wrongLogin) apply(a *Arbiter) {
	a.flagged(w.through, &protocol.Violation{Reason: violationLogin, Source: w.source, Count: 1})
	var known bool
	a.config.Store.View(func(s *registry.State) { known = s.Clients.Get(w.user) != nil })
	if !known {
		return
	}
	if w.count >= GuessesFree && w.count&(w.count-1) == 0 { // 8, 16, 32 ...
		a.config.Log.Warn("wrong logins, slowed down", "client", w.user, "source", w.source, "count", w.count)
	}
	kept := a.alarms[w.user]
	if now := a.config.Now(); kept == nil || now-kept.at > AlarmForgets {
		kept = &alarm{sources: map[slots.Source]struct{}{}, next: AlarmGuesses}
		a.alarms[w.user] = kept
	}
	if kept.note(w, a.config.Now()) {
		a.config.Log.Warn("many wrong logins of one client; it is not slowed down elsewhere",
			"client", w.user, "count", kept.count, "sources", len(kept.sources))
	}
}

// alarm is one client's wrong logins, from everywhere.
type alarm struct {
	count, next int
	at          time.Duration
	sources     map[slots.Source]struct{}
}

// note counts one more and reports whether it is time to say so: at AlarmGuesses,
// and each time that there are twice as many.
func (k *alarm) note(w wrongLogin, now time.Duration) bool {
	k.at = now
	k.count++
	if len(k.sources) < MaxAlarmSources {
		k.sources[slots.SourceOf(w.source)] = struct{}{}
	}
	if k.count < k.next {
		return false
	}
	k.next *= 2
	return true
}
