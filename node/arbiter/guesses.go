package arbiter

import (
	"encoding/hex"
	"net/netip"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/slots"
)

// guesses slows down who logs in wrongly: by user and source, and by source over
// all users. A user's wrong logins from everywhere are an alarm only (alarms), or
// strangers could lock out whom they like. It is asked by the name that somebody
// claims, so it says nothing of who exists.
//
// An attempt counts as wrong until it was right, so that a thousand at once are
// not let in before the first has failed. Nothing waits: who has to wait is
// refused and told how long. All of it ends with the term.
//
// A client's address is the word of the node that it came through, so it counts with
// that node's name: a node that lies slows down only who comes through it. And because
// it may name a new address each time, there is a budget for each node, which an honest
// one exhausts only when thousands of addresses guess through it at once.
type guesses struct {
	mu       sync.Mutex // protects what follows
	tallies  map[guess]tally
	familiar generations
	gateways map[identity.NodeID]budget
}

// budget is how many wrong logins may still come through a node.
type budget struct {
	left float64
	at   time.Duration
}

// refill is the budget now; the zero one is full.
func (b budget) refill(now time.Duration) budget {
	if b.at == 0 {
		return budget{GatewayGuesses, now}
	}
	return budget{min(GatewayGuesses, b.left+(now-b.at).Seconds()*GatewayGuessRate), now}
}

// guess is whose attempts are counted together.
type guess struct {
	user   string // empty: of all users
	source netip.Prefix
	via    identity.NodeID // who named the source; zero: nobody had to
}

// anywhere is the same through whatever node: who logged in through one is known at all.
func (g guess) anywhere() guess {
	g.via = identity.NodeID{}
	return g
}

type tally struct {
	wrong int // forgiven by and by
	at    time.Duration
}

// allowance is how many wrong logins cost nothing, and after how many more the
// wait doubles.
type allowance struct{ free, step int }

// charge is one attempt, as it may have to be taken back.
type charge struct {
	guess
	allowance
	passing bool  // of a session, not of a client
	kept    tally // as it stood in the table
	before  tally // the same, with what is forgiven by now
	at      time.Duration
}

// attempt asks whether a login may be tried now; if not, it says for how long not.
func (g *guesses) attempt(m *protocol.Auth, from netip.Addr, via identity.NodeID, now time.Duration) (charges []charge, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	charges = chargesOf(m, slots.SourceOf(from), via)
	pair := charges[0].anywhere()
	left := g.gateways[via].refill(now)
	if !via.IsZero() && left.left < 1 && !g.familiar.has(pair) {
		return nil, time.Duration((1 - left.left) / GatewayGuessRate * float64(time.Second))
	}
	for i := range charges {
		c := &charges[i]
		c.kept, c.at = g.tallies[c.guess], now
		c.before = c.kept.forgiven(now)
		if i == 0 || !g.familiar.has(pair) {
			wait = max(wait, c.wait(now))
		}
	}
	if wait > 0 {
		return nil, wait
	}
	for _, c := range charges {
		g.put(c.guess, tally{c.before.wrong + 1, now})
	}
	g.spend(via, left, 1)
	return charges, 0
}

// spend takes from a node's budget, or gives back.
func (g *guesses) spend(via identity.NodeID, left budget, cost float64) {
	if via.IsZero() {
		return
	}
	if g.gateways == nil {
		g.gateways = make(map[identity.NodeID]budget) // of members: no more than there are
	}
	left.left = max(0, min(left.left-cost, GatewayGuesses))
	g.gateways[via] = left
}

// right takes an attempt back: whoever made it is who it claims to be.
func (g *guesses) right(charges []charge) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, c := range charges {
		t, ok := g.tallies[c.guess]
		if !ok {
			continue
		}
		if t.at == c.at && t.wrong == c.before.wrong+1 {
			t = c.kept
		} else { // others came in between
			t.wrong = max(0, t.wrong-1)
		}
		if i == 0 {
			// Free of its wait, but the next wrong one costs again.
			t.wrong = min(t.wrong, c.free-1)
		}
		if g.tallies[c.guess] = t; t.wrong == 0 {
			delete(g.tallies, c.guess)
		}
	}
	if !charges[0].passing { // or one client's sessions would have all others forgotten
		g.familiar.add(charges[0].anywhere())
	}
	via := charges[0].via
	g.spend(via, g.gateways[via], -1)
}

// chargesOf is what an attempt counts for; the first is of user and source.
func chargesOf(m *protocol.Auth, from slots.Source, via identity.NodeID) []charge {
	user, each, part, whole := m.User, allowance{GuessesFree, 1}, allowance{SourceGuessesFree, SourceGuessesStep},
		allowance{WideGuessesFree, WideGuessesStep}
	all := ""
	if m.Method == protocol.MethodResume {
		// A session's id is as hard to guess as its key: here only those count
		// who come back to sessions that are over, and they mean no harm.
		user, all = "session "+hex.EncodeToString(m.Session[:]), "sessions"
		part = whole
	} else if auth.CheckUser(user) != nil {
		user = "nobody at all" // is no name, so no client's
	}
	charges := []charge{
		{guess: guess{user, from.Part, via}, allowance: each, passing: m.Method == protocol.MethodResume},
		{guess: guess{all, from.Part, via}, allowance: part},
	}
	if from.Whole != from.Part {
		charges = append(charges, charge{guess: guess{all, from.Whole, via}, allowance: whole})
	}
	return charges
}

// forgiven is the tally after a while without a wrong login.
func (t tally) forgiven(now time.Duration) tally {
	gone := int((now - t.at) / GuessForgiven)
	if t.wrong <= gone {
		return tally{}
	}
	return tally{t.wrong - gone, t.at}
}

// wait is for how long the next attempt is refused.
func (c *charge) wait(now time.Duration) time.Duration {
	over := c.before.wrong - c.free
	if over < 0 || c.before.wrong == 0 {
		return 0
	}
	delay := MaxGuessWait
	if doublings := over / c.step; doublings < 20 {
		delay = min(delay, time.Second<<doublings)
	}
	return max(0, c.before.at+delay-now)
}

// put keeps a tally. When there is no room, one that weighs little goes: nobody
// can have himself forgotten by filling the table with names.
func (g *guesses) put(key guess, t tally) {
	if g.tallies == nil {
		g.tallies = make(map[guess]tally)
	}
	if _, known := g.tallies[key]; !known && len(g.tallies) >= MaxGuesses {
		g.evict(t.at)
	}
	g.tallies[key] = t
}

func (g *guesses) evict(now time.Duration) {
	var least guess
	lightest, seen := -1, 0
	for key, t := range g.tallies { // in no order
		if wrong := t.forgiven(now).wrong; lightest < 0 || wrong < lightest {
			least, lightest = key, wrong
		}
		if seen++; seen == evictAmong {
			break
		}
	}
	delete(g.tallies, least)
}

// generations is a set of bounded size: when the young one is full it becomes the
// old one.
type generations struct{ young, old map[guess]struct{} }

func (g *generations) has(key guess) bool {
	if _, ok := g.young[key]; ok {
		return true
	}
	_, ok := g.old[key]
	return ok
}

func (g *generations) add(key guess) {
	if _, known := g.young[key]; !known && len(g.young) >= MaxFamiliar {
		g.old, g.young = g.young, nil
	}
	if g.young == nil {
		g.young = make(map[guess]struct{})
	}
	g.young[key] = struct{}{}
}
