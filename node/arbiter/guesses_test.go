package arbiter

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/slots"
)

func password(user string) *protocol.Auth {
	return &protocol.Auth{Method: protocol.MethodPassword, User: user}
}

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}) }

// wrongs tries so often as fast as it may, and returns how long that took.
func (g *guesses) wrongs(n int, m *protocol.Auth, from netip.Addr, now time.Duration) time.Duration {
	begin := now
	for n > 0 {
		if _, wait := g.attempt(m, from, direct, now); wait > 0 {
			now += wait
		} else {
			n--
		}
	}
	return now - begin
}

// TestWaitDoubles: five wrong ones cost nothing, then each doubles the wait, up to
// MaxGuessWait.
func TestWaitDoubles(t *testing.T) { // I10
	var g guesses
	now := time.Hour
	if took := g.wrongs(GuessesFree, password("ann"), addr(1), now); took != 0 {
		t.Errorf("%d wrong logins took %v", GuessesFree, took)
	}
	want := time.Second
	for i := range 14 {
		_, wait := g.attempt(password("ann"), addr(1), direct, now)
		if wait != want {
			t.Errorf("after %d wrong ones: wait %v, want %v", GuessesFree+i, wait, want)
		}
		if _, wait := g.attempt(password("ann"), addr(1), direct, now+wait-1); wait != 1 {
			t.Errorf("a refused attempt made the wait %v longer", wait-1)
		}
		now += wait
		if _, wait := g.attempt(password("ann"), addr(1), direct, now); wait > 0 {
			t.Errorf("refused for %v after the wait", wait)
		}
		want = min(2*want, MaxGuessWait)
	}
	// 20,000 would take half a year.
	var patient guesses
	if took := patient.wrongs(1000, password("ann"), addr(1), now); took < 6*24*time.Hour {
		t.Errorf("1,000 wrong ones took %v", took)
	}
	for what, m := range map[string]*protocol.Auth{
		"another user": password("bob"), "a resumption": {Method: protocol.MethodResume},
	} {
		if _, wait := g.attempt(m, addr(1), direct, now); wait > 0 {
			t.Errorf("%s at that source waits %v", what, wait)
		}
	}
	if _, wait := g.attempt(password("ann"), addr(2), direct, now); wait > 0 {
		t.Errorf("the user waits %v elsewhere", wait)
	}
	if _, wait := g.attempt(password("ann"), addr(1), direct, now+30*GuessForgiven); wait > 0 {
		t.Errorf("nothing was forgiven: %v", wait)
	}
}

// TestWaitOfASource: names cost a source too, except whoever logged in there.
func TestWaitOfASource(t *testing.T) { // I10
	var g guesses
	now := time.Hour
	charges, _ := g.attempt(password("ann"), addr(1), direct, now)
	g.right(charges)
	for i := range SourceGuessesFree {
		if _, wait := g.attempt(password(fmt.Sprint("user", i)), addr(1), direct, now); wait > 0 {
			t.Fatalf("the %dth name waits", i+1)
		}
	}
	if _, wait := g.attempt(password("bob"), addr(1), direct, now); wait != time.Second {
		t.Errorf("one more waits %v", wait)
	}
	if _, wait := g.attempt(&protocol.Auth{Method: protocol.MethodCertificate, User: "bob"}, addr(1), direct, now); wait != time.Second {
		t.Errorf("by another method it waits %v", wait)
	}
	if _, wait := g.attempt(password("\x00 no name"), addr(1), direct, now); wait != time.Second {
		t.Errorf("what is no name waits %v", wait)
	}
	charges, wait := g.attempt(password("ann"), addr(1), direct, now)
	if wait > 0 {
		t.Fatalf("who logged in here before waits %v", wait)
	}
	g.right(charges)
	if _, wait := g.attempt(password("bob"), addr(1), direct, now); wait == 0 {
		t.Error("a right login had the others forgotten")
	}
}

// TestRightOnesCostNothing: a company behind one address, all at once.
func TestRightOnesCostNothing(t *testing.T) {
	var g guesses
	for i := range 500 {
		charges, wait := g.attempt(password(fmt.Sprint("user", i)), addr(1), direct, time.Hour)
		if wait > 0 {
			t.Fatalf("the %dth right login waits %v", i+1, wait)
		}
		g.right(charges)
	}
	if len(g.tallies) != 0 {
		t.Errorf("%d tallies are left", len(g.tallies))
	}
}

// TestAtOnce: attempts that overlap count before the first has failed.
func TestAtOnce(t *testing.T) {
	var g guesses
	passed := 0
	for range 1000 {
		if _, wait := g.attempt(password("ann"), addr(1), direct, time.Hour); wait == 0 {
			passed++
		}
	}
	if passed != GuessesFree {
		t.Errorf("%d of 1,000 at once were tried", passed)
	}
}

// TestRightAfterWrong: the wait of a pair ends with a right login, and the next
// wrong one costs again.
func TestRightAfterWrong(t *testing.T) {
	var g guesses
	now := time.Hour
	now += g.wrongs(GuessesFree+3, password("ann"), addr(1), now)
	_, wait := g.attempt(password("ann"), addr(1), direct, now)
	charges, _ := g.attempt(password("ann"), addr(1), direct, now+wait)
	now += wait
	g.right(charges)
	if _, wait := g.attempt(password("ann"), addr(1), direct, now); wait > 0 {
		t.Errorf("after a right login: wait %v", wait)
	}
	if _, wait := g.attempt(password("ann"), addr(1), direct, now); wait != time.Second {
		t.Errorf("after one more wrong one: wait %v", wait)
	}
}

// TestIPv6Rotates: whoever has a /56 has one source, and a /48 not 256 times as much.
func TestIPv6Rotates(t *testing.T) {
	var g guesses
	v6 := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:1:%x::%x", i, i)) }
	for i := range GuessesFree {
		g.attempt(password("ann"), v6(i), direct, time.Hour)
	}
	if _, wait := g.attempt(password("ann"), v6(200), direct, time.Hour); wait == 0 {
		t.Error("another /64 of that /56 waits not")
	}
	tried := 0
	for i := range 1 << 16 {
		if _, wait := g.attempt(password("bob"), v6(i), direct, time.Hour); wait == 0 {
			tried++
		}
	}
	if tried > WideGuessesFree+GuessesFree {
		t.Errorf("a /48 had %d guesses at once", tried)
	}
}

// TestGuessesAreBounded: memory is, and nobody is forgotten by filling it.
func TestGuessesAreBounded(t *testing.T) { // I10
	var g guesses
	now := time.Hour
	now += g.wrongs(GuessesFree+6, password("ann"), addr(0), now)
	for i := range MaxGuesses + MaxGuesses/4 {
		g.attempt(password(fmt.Sprint("user", i)), addr(1+i%60000), direct, now)
		charges, _ := g.attempt(password(fmt.Sprint("right", i)), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), direct, now)
		g.right(charges)
	}
	if len(g.tallies) > MaxGuesses || len(g.familiar.young)+len(g.familiar.old) > 2*MaxFamiliar {
		t.Errorf("%d tallies, %d and %d familiar", len(g.tallies), len(g.familiar.young), len(g.familiar.old))
	}
	if _, wait := g.attempt(password("ann"), addr(0), direct, now); wait < 30*time.Second {
		t.Errorf("after that the wait is %v", wait)
	}
}

// TestResumptionsForgetNobody: who logged in is still known after very many sessions of
// others came back.
func TestResumptionsForgetNobody(t *testing.T) {
	var g guesses
	ann := password("ann")
	charges, _ := g.attempt(ann, addr(1), direct, time.Hour)
	g.right(charges)
	for i := range 3 * MaxFamiliar {
		m := &protocol.Auth{Method: protocol.MethodResume, Session: registry.SessionID{byte(i >> 16), byte(i >> 8), byte(i)}}
		charges, wait := g.attempt(m, addr(2), direct, time.Hour)
		if wait > 0 {
			t.Fatalf("resumption %d waits %v", i, wait)
		}
		g.right(charges)
	}
	if !g.familiar.has(charges[0].anywhere()) {
		t.Error("a client that had logged in is forgotten")
	}
}

// TestManyWrongPasswords is the attack itself: 20,000 wrong passwords, and the same
// for a name that nobody has. Few are tried, the answers are alike, and the right
// password is not taken in between. It is recorded, without the unknown name.
func TestManyWrongPasswords(t *testing.T) {
	v := newVisitors(t)
	digest := sha256.Sum256([]byte("ann"))
	key, err := identity.KeyFromSeed(digest[:])
	v.ok(err)
	v.admit(registry.Client{Name: "ann", PasswordKey: key.Public()})
	log := &strings.Builder{}
	v.a.config.Log = slog.New(slog.NewTextHandler(log, nil))
	right := func(user string) *protocol.Auth {
		return &protocol.Auth{Method: protocol.MethodPassword, User: user, Proof: auth.SignPassword(key, v.binding, user)}
	}
	var said [2][]string
	for i, user := range []string{"ann", "nobody"} {
		m := right(user)
		m.Proof = auth.SignPassword(key, auth.Binding{}, user)
		for range 20_000 {
			said[i] = append(said[i], v.tried(m, addr(i)).Error())
		}
		if err := v.tried(right(user), addr(i)); err == nil || !strings.Contains(err.Error(), "too many wrong logins, wait 1 s") {
			t.Errorf("%s: the right password after 20,000 wrong ones: %v", user, err)
		}
	}
	tried := 0
	for i := range said[0] {
		if said[0][i] != said[1][i] {
			t.Fatalf("the %dth answer tells who exists: %q and %q", i+1, said[0][i], said[1][i])
		}
		if !strings.Contains(said[0][i], "too many") {
			tried++
		}
	}
	if tried != GuessesFree {
		t.Errorf("%d of 20,000 were tried", tried)
	}
	for range 1000 {
		v.tried(password("ann"), addr(7+v.a.alarms["ann"].count)) // from everywhere
	}
	if err := v.tried(right("ann"), addr(9999)); err != nil {
		t.Errorf("a user is slowed down where nobody guessed: %v", err)
	}
	got := log.String()
	if n := strings.Count(got, "\n"); n > 20 || !strings.Contains(got, "many wrong logins of one client") ||
		!strings.Contains(got, "client=ann") || !strings.Contains(got, violationLogin) || strings.Contains(got, "nobody") {
		t.Errorf("%d lines of log:\n%s", n, got)
	}
	if all := v.a.violations[identity.NodeID{}]; len(all) != 1 || all[0].Reason != violationLogin || all[0].Count < 40_000 {
		t.Errorf("violations %+v", all)
	}
}

// tried logs in from an address, and lets the loop hear of it.
func (v *visitors) tried(m *protocol.Auth, from netip.Addr) error {
	err := v.a.authenticate(&clientStream{introduction: &introduction{}, remote: netip.AddrPortFrom(from, 1)}, m, v.binding)
	for {
		select {
		case e := <-v.a.events:
			e.apply(v.a)
		default:
			return err
		}
	}
}

// TestEveryMethodIsSlowedDown.
func TestEveryMethodIsSlowedDown(t *testing.T) {
	v := newVisitors(t)
	v.admit(registry.Client{Name: "ann"})
	for _, method := range []string{
		protocol.MethodPassword, protocol.MethodSharedKey, protocol.MethodCertificate, protocol.MethodResume, "another",
	} {
		from := addr(len(method))
		for i := range GuessesFree + 1 {
			err := v.tried(&protocol.Auth{Method: method, User: "ann", Chain: [][]byte{{1}}}, from)
			if err == nil || strings.Contains(err.Error(), "too many") != (i == GuessesFree) {
				t.Errorf("%s, try %d: %v", method, i+1, err)
			}
		}
	}
}

// TestAlarmIsBounded: a client's alarm remembers so many sources, and speaks up when
// there are twice as many wrong logins as the last time.
func TestAlarmIsBounded(t *testing.T) { // I10
	k := &alarm{sources: map[slots.Source]struct{}{}, next: AlarmGuesses}
	spoke := 0
	for i := range 20 * AlarmGuesses {
		if k.note(wrongLogin{source: addr(i)}, time.Hour) {
			spoke++
		}
	}
	if spoke != 5 || len(k.sources) != MaxAlarmSources { // at 100, 200, 400, 800, 1600
		t.Errorf("spoke %d times, %d sources", spoke, len(k.sources))
	}
}

// direct is of a client that came to the arbiter itself.
var direct identity.NodeID

// TestGuessesThroughALiar: a node that names a new address each time has a budget, and
// what it says of an address costs nobody who comes another way.
func TestGuessesThroughALiar(t *testing.T) {
	var g guesses
	now, liar, honest := time.Hour, identity.NodeID{1}, identity.NodeID{2}
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	tried := 0
	for i := range 3 * GatewayGuesses {
		if _, wait := g.attempt(password("ann"), address(i), liar, now); wait == 0 {
			tried++
		}
	}
	if tried != GatewayGuesses {
		t.Errorf("%d wrong logins of one user through one node, at once", tried)
	}
	now += 10 * time.Second
	for i := range 100 {
		if _, wait := g.attempt(password("ann"), address(1<<16+i), liar, now); wait == 0 {
			tried++
		}
	}
	if tried != GatewayGuesses+10*GatewayGuessRate {
		t.Errorf("%d after ten seconds more", tried)
	}
	another := identity.NodeID{3}
	for range 100 {
		g.attempt(password("bob"), addr(1), another, now)
	}
	if _, wait := g.attempt(password("bob"), addr(1), another, now); wait == 0 {
		t.Error("what one names is not slowed down")
	}
	for name, via := range map[string]identity.NodeID{"directly": direct, "through another node": honest} {
		charges, wait := g.attempt(password("bob"), addr(1), via, now)
		if wait != 0 {
			t.Errorf("%s: waits %v for what a liar said", name, wait)
			continue
		}
		g.right(charges)
	}
}

// TestHonestNodeKeepsItsBudget: right logins cost nothing, and who logged in before is
// let in when strangers have spent it.
func TestHonestNodeKeepsItsBudget(t *testing.T) {
	var g guesses
	now, via := time.Hour, identity.NodeID{1}
	for i := range 2 * GatewayGuesses {
		charges, wait := g.attempt(password("ann"), addr(1), via, now)
		if wait != 0 {
			t.Fatalf("right login %d waits", i)
		}
		g.right(charges)
	}
	for i := range GatewayGuesses {
		g.attempt(password("eve"), netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), via, now)
	}
	if _, wait := g.attempt(password("bob"), addr(2), via, now); wait == 0 {
		t.Error("the budget has no end")
	}
	if _, wait := g.attempt(password("ann"), addr(1), via, now); wait != 0 {
		t.Error("who logged in before waits for strangers")
	}
}
