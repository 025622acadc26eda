package check

import (
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestRightHistory has a bit of all, and nothing wrong.
func TestRightHistory(t *testing.T) {
	s := begin(t)
	s.open(1, "alice", 1)
	s.Tables(s.now, []Table{table(0), table(1, s.has(1, 1)), table(2)})
	s.up(1)
	next := s.slice(2)
	next.Epoch = 2
	s.term = 3
	s.Fence(s.now, node(2), protocol.Fence{Term: 3})
	s.commit(registry.Command{GrantSlice: &registry.GrantSlice{Session: sessionID(1), Slice: next, Retire: true}})
	old, fresh := s.has(1, 1), s.has(1, 2)
	old.Fence.Term = 2
	s.Tables(s.now, []Table{table(1, old), table(2, fresh)})
	s.now = 5 * second
	s.Left("alice")
	s.end(1, "client disconnected")
	s.Tables(s.now, []Table{table(1), table(2)})
	s.green()
}

func TestOneHistory(t *testing.T) {
	s := begin(t)
	same, other := s.history.commands[3].command, s.history.commands[4].command
	s.Entry(second, node(1), 3, 2, same)
	s.green()
	s.Entry(2*second, node(2), 3, 2, other)
	s.red("one history", 2*second, "n3", "index 3", "n1")
}

func TestOneOwner(t *testing.T) {
	s := begin(t)
	s.open(1, "alice", 1)
	s.Tables(second, []Table{table(1, s.has(1, 1)), table(2, s.has(1, 1))})
	s.red("I3", second, "slice 0", "epoch 1", "n2", "n3")
	s.red("I6", second, "n3 has keys", "committed for n2")
}

// TestOneOwnerInRegistry: Apply does not do this, so it is told.
func TestOneOwnerInRegistry(t *testing.T) {
	s := begin(t)
	s.open(1, "alice", 1)
	was := s.Registry().Sessions.Get(sessionID(1))
	now := *was
	now.Slices = []registry.Slice{was.Slices[0]}
	s.lookAtOwners(second, &now)
	s.green()
	now.Slices[0].Agent = node(2)
	s.lookAtOwners(2*second, &now)
	s.red("I3", 2*second, "n3", "n2", "epoch 1")

	s = begin(t)
	s.open(1, "alice", 1)
	was = s.Registry().Sessions.Get(sessionID(1))
	now = *was
	now.Slices = []registry.Slice{was.Slices[0]}
	now.Slices[0].Boot = identity.BootID{77} // another process of the same one has no keys of the first
	s.lookAtOwners(2*second, &now)
	s.red("I3", 2*second, "n2", "epoch 1")
}

func TestGrantsAreCommitted(t *testing.T) {
	s := begin(t)
	s.open(1, "alice", 1)
	ahead := s.has(1, 2)
	s.Tables(second, []Table{table(1, ahead)})
	s.red("I6", second, "n2", "epoch 2", "never committed")

	s = begin(t)
	s.open(1, "alice", 1)
	reborn := table(1, s.has(1, 1))
	reborn.Boot = identity.BootID{77}
	s.Tables(second, []Table{reborn})
	s.red("I6", second, "n2", "another process")

	s = begin(t)
	s.open(1, "alice", 1)
	early := s.has(1, 1)
	early.Fence = protocol.Fence{Incarnation: s.Registry().Cluster.Incarnation, Term: s.term - 1}
	s.Tables(second, []Table{table(1, early)})
	s.red("I6", second, "n2", "committed in term 2")
}

func TestNoGrantBelowFence(t *testing.T) {
	s := begin(t)
	s.open(1, "alice", 1)
	s.Tables(s.now, []Table{table(1, s.has(1, 1))})
	s.Fence(second, node(1), protocol.Fence{Term: 5})
	s.Tables(2*second, []Table{table(1, s.has(1, 1))}) // it had it before
	s.green()
	s.open(2, "bob", 1)
	s.Tables(3*second, []Table{table(1, s.has(1, 1), s.has(2, 1))})
	s.red("I6", 3*second, "n2", "fence 0.2", "seen 0.5")

	s = begin(t)
	s.Fence(second, node(1), protocol.Fence{Term: 5})
	s.Fence(2*second, node(1), protocol.Fence{Term: 4})
	s.red("I6", 2*second, "n2 took fence 0.4", "0.5")
}

func TestNoOlderEpoch(t *testing.T) {
	s := begin(t)
	s.open(1, "alice", 1)
	next := s.slice(1)
	next.Epoch = 2
	s.commit(registry.Command{GrantSlice: &registry.GrantSlice{Session: sessionID(1), Slice: next}})
	s.Tables(second, []Table{table(1, s.has(1, 2))})
	s.green()
	s.Tables(2*second, []Table{table(1, s.has(1, 1), s.has(1, 2))})
	s.red("I6", 2*second, "n2 took", "epoch 1", "had epoch 2")
}

func TestSessionsEndForAReason(t *testing.T) {
	for name, c := range map[string]struct {
		up, right bool
		story     func(*story)
	}{
		"for none":              {true, false, func(s *story) { s.end(1, "tired") }},
		"client says so":        {true, true, func(s *story) { s.Left("alice"); s.end(1, "client disconnected") }},
		"another client said":   {true, false, func(s *story) { s.Left("bob"); s.end(1, "client disconnected") }},
		"operator says so":      {true, true, func(s *story) { s.Ordered(sessionID(1), "kicked"); s.end(1, "kicked") }},
		"never up":              {false, true, func(s *story) { s.end(1, "no agent") }},
		"refused at once":       {false, true, func(s *story) { s.now -= second; s.end(1, "no agent") }},
		"had, and not up":       {false, false, func(s *story) { s.now -= second; s.Heard(s.now, sessionID(1)); s.end(1, "no agent") }},
		"headless":              {true, true, func(s *story) { s.now += 200 * second; s.end(1, "gone") }},
		"not headless":          {true, false, func(s *story) { s.Heard(150*second, sessionID(1)); s.now += 200 * second; s.end(1, "gone") }},
		"device logs in anew":   {true, true, func(s *story) { s.open(2, "alice", 2) }},
		"it was up, and is not": {true, false, func(s *story) { s.end(1, "no agent") }},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.open(1, "alice", 1)
			if c.up {
				s.up(1)
			}
			s.now += second
			c.story(s)
			if c.right {
				s.green()
			} else {
				s.red("I12", s.now, "alice", "neither its client")
			}
		})
	}
}

// TestStoppedThenGone: who was killed while it stood still is a new process afterwards, and
// no more excused.
func TestStoppedThenGone(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.200")
	s := begin(t)
	s.Stopped(second, node(0), true)
	s.Gone(2*second, node(0))
	s.Holds(3*second, node(0), a, true)
	s.Holds(4*second, node(1), a, true)
	s.Tick(10 * second)
	s.red("one egress", 5*second, "10.0.0.200", "n1 and n2")
}

func TestClientsGiveNothingUp(t *testing.T) {
	s := begin(t)
	s.open(1, "alice", 1)
	s.ClientEnded(second, "alice", sessionID(1), "the mesh does not answer")
	s.red("I12", second, "alice", "does not answer")

	s = begin(t)
	s.open(1, "alice", 1)
	s.Left("alice")
	s.ClientEnded(second, "alice", sessionID(1), "asked to")
	s.green()
}

// TestPrekeysAreSpentOnce: of one process.
func TestPrekeysAreSpentOnce(t *testing.T) {
	s := begin(t)
	s.open(1, "alice", 1)
	was := s.Registry().Sessions.Get(sessionID(1)).Slices[0]
	other := slot{sessionID(2), 0, 1}
	reborn := was
	reborn.Boot = identity.BootID{77}
	s.lookAtPrekey(second, other, reborn)
	s.lookAtPrekey(second, slot{sessionID(1), 0, 1}, was)
	s.green()
	s.lookAtPrekey(2*second, other, was)
	s.red("I2", 2*second, sessionID(2).Short(), sessionID(1).Short(), "n2")
}

// TestResumedKeepsItsSlices: where nothing is wrong, and those that are up.
func TestResumedKeepsItsSlices(t *testing.T) {
	for name, c := range map[string]struct{ up, wrong, anew bool }{
		"granted anew":     {true, false, true},
		"nothing granted":  {true, false, false},
		"was not up":       {false, false, true},
		"something failed": {true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.open(1, "alice", 1)
			if c.up {
				s.up(1)
			}
			if c.wrong {
				s.Wrong(second, 1)
			}
			s.now = 10 * second
			r := &registry.ResumeKey{Session: sessionID(1), Request: registry.RequestID{9}, Key: key(30), Hello: hash}
			if c.anew {
				next := s.slice(2)
				next.Epoch = 2
				r.Slices = []registry.Slice{next}
			}
			s.commit(registry.Command{ResumeKey: r})
			if c.up && c.anew && !c.wrong {
				s.red("kept", s.now, "alice", "epoch 1")
			} else {
				s.green()
			}
		})
	}
}

// TestRecovered: in a higher incarnation, and nobody is admitted whom the old history refuses.
// Entries behind the state that is left come again, and are others.
func TestRecovered(t *testing.T) {
	s := begin(t)
	left := s.Registry().Clone()
	left.Cluster.Incarnation++
	s.commit(registry.Command{CreateToken: &registry.CreateToken{Token: registry.Token{ID: "lost", Verify: []byte("v"), May: roles, Uses: 1, Expires: 100}}})
	s.Recovered(second, left)
	s.index = left.Index
	s.commit(registry.Command{CreateToken: &registry.CreateToken{Token: registry.Token{ID: "next", Verify: []byte("v"), May: roles, Uses: 1, Expires: 100}}})
	s.green()
	if s.Registry().Tokens["lost"] != nil || s.Registry().Tokens["next"] == nil {
		t.Error("it does not go on from what is left")
	}
	left = s.Registry().Clone()
	s.commit(registry.Command{RevokeClient: &registry.RevokeClient{Name: "alice"}})
	s.Recovered(2*second, left)
	s.red("recover", 2*second, "incarnation 2, and was in 2")
	s.red("recover", 2*second, "alice")
}

// TestEpochOfBeforeARecovery: what was granted in the history that is given up is not granted
// again.
func TestEpochOfBeforeARecovery(t *testing.T) {
	for again, floor := range map[bool]uint32{true: 0, false: 7} {
		s := begin(t)
		s.open(1, "alice", 1)
		left := s.Registry().Clone()
		left.Cluster.Incarnation++
		left.EpochFloor = floor
		grant := func() {
			next := s.slice(2)
			next.Epoch = s.Registry().NextEpoch(1)
			s.commit(registry.Command{GrantSlice: &registry.GrantSlice{Session: sessionID(1), Slice: next}})
		}
		grant()
		s.Recovered(second, left)
		s.index = left.Index
		if grant(); again {
			s.red("I3", s.now, "is granted to n3, and was to n3")
		} else {
			s.green()
		}
	}
}

// TestToldOfTheEnd: at once where nothing is wrong, else in time, and nobody while something is.
func TestToldOfTheEnd(t *testing.T) {
	ended := func(wrongAt time.Duration, holder func(*story) Table) *story {
		s := begin(t)
		s.open(1, "alice", 1)
		s.up(1)
		s.now = 20 * second
		s.Tables(s.now, []Table{holder(s)})
		if wrongAt > 0 && wrongAt < s.now {
			s.Wrong(wrongAt, 1)
			s.Wrong(wrongAt+second, 0)
		}
		s.Ordered(sessionID(1), "kicked")
		s.end(1, "kicked")
		if wrongAt >= s.now {
			s.Wrong(wrongAt, 1)
			s.Has(wrongAt+ToldWithin+second, "alice", sessionID(1).String())
			s.Wrong(wrongAt+second, 0)
		}
		return s
	}
	has := func(s *story) Table { return table(1, s.has(1, 1)) }
	reborn := func(*story) Table { return Table{Agent: node(1), Boot: identity.BootID{77}} }
	stood := func(*story) Table { return table(1) } // for long, and gave back what it had
	throughOneThatDied := func(heard time.Duration) func(*story) Table {
		return func(s *story) Table {
			s.Gone(3*second, node(2))
			s.Way(sessionID(1), 0, 1, node(2), heard)
			return has(s)
		}
	}
	for name, c := range map[string]struct {
		wrongAt, by time.Duration
		holder      func(*story) Table
	}{
		"nothing wrong":        {0, 20*second + ToldAtOnce, has},
		"wrong long ago":       {2 * second, 20*second + ToldAtOnce, has},
		"nobody could call it": {2 * second, 20*second + ToldWithin, reborn},
		"nor who stood still":  {2 * second, 20*second + ToldWithin, stood},
		"its gateway died":     {2 * second, 20*second + ToldWithin, throughOneThatDied(second)},
		"and it asked again":   {2 * second, 20*second + ToldAtOnce, throughOneThatDied(4 * second)},
		"wrong lately":         {16 * second, 20*second + ToldWithin, has},
		"wrong after it":       {21 * second, 22*second + ToldWithin, has},
		"wrong as it was":      {20 * second, 21*second + ToldWithin, has},
	} {
		t.Run(name, func(t *testing.T) {
			s := ended(c.wrongAt, c.holder)
			s.Has(c.by, "alice", sessionID(2).String())
			s.Has(c.by, "alice", sessionID(1).String())
			s.green()
			s.Has(c.by+1, "alice", sessionID(1).String())
			s.red("told", c.by+1, "alice", "ended at 20s")
		})
	}
}

// TestAddressesAreGivenAnew: the agent acknowledged, but has the keys still.
func TestAddressesAreGivenAnew(t *testing.T) {
	for _, lies := range []bool{false, true} {
		s := begin(t)
		s.open(1, "alice", 1)
		alices := s.has(1, 1)
		s.Left("alice")
		s.end(1, "client disconnected")
		s.Tables(second, []Table{table(1, alices)}) // nobody else has the address
		s.green()
		s.commit(registry.Command{Acknowledge: &registry.Acknowledge{Agent: node(1), Boot: identity.BootID{2}, Sessions: []registry.SessionID{sessionID(1)}}})
		for n := 2; s.has(n-1, 1).Leases[0] != alices.Leases[0] || n == 2; n++ { // fresh ones go first
			s.openOn(n, "bob", byte(n), 2)
		}
		if lies {
			s.Tables(2*second, []Table{table(1, alices)})
			s.red("I13", 2*second, "n2", "alice", "bob", alices.Leases[0].String())
		} else {
			s.Tables(2*second, []Table{table(1)})
			s.green()
		}
	}
}

func TestOneEgress(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.200")
	s := begin(t)
	s.Wrong(0, 2)
	s.Holds(second, node(0), a, true)
	s.Holds(2*second, node(1), a, true)
	s.Holds(2900*time.Millisecond, node(0), a, false)
	s.Tick(10 * second)
	s.green()
	s.Holds(11*second, node(2), a, true)
	s.Tick(11900 * time.Millisecond)
	s.green()
	s.Tick(13 * second)
	s.red("one egress", 12*second, "10.0.0.200", "n2 and n3")

	s = begin(t) // who is dead, or stands still, owns nothing that it could let go
	s.Wrong(0, 2)
	s.Holds(second, node(0), a, true)
	s.Stopped(2*second, node(0), true)
	s.Holds(3*second, node(1), a, true)
	s.Tick(20 * second)
	s.Stopped(20*second, node(0), false)
	s.Gone(20900*time.Millisecond, node(0))
	s.Tick(40 * second)
	s.green()
	s.Holds(50*second, node(0), a, true)
	s.Holds(52*second, node(0), a, false)
	s.red("one egress", 51*second, "n2 and n1")
}

// TestCutOffOwner: who hears nobody has to let go by itself, whatever an arbiter says.
func TestCutOffOwner(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.200")
	s := begin(t)
	s.Apart(second, node(0), node(1), true)
	s.Apart(second, node(0), node(2), true)
	s.Holds(second, node(0), a, true)
	s.Holds(1500*time.Millisecond, node(1), a, true)
	s.Tick(10 * second)
	s.red("one egress", 2500*time.Millisecond, "n1 and n2")
}

// TestLossyOwners: where packets are lost two find each other later.
func TestLossyOwners(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.200")
	s := begin(t)
	s.Lossy(second, true)
	s.Holds(2*second, node(0), a, true)
	s.Holds(2*second, node(1), a, true)
	s.Lossy(4*second, false)
	s.Tick(5900 * time.Millisecond)
	s.green()
	s.Tick(7 * second)
	s.Holds(8*second, node(1), a, false)
	s.red("one egress", 6*second, "n1 and n2", "4s")
	if len(s.Violations()) != 1 {
		t.Errorf("it was said %d times", len(s.Violations()))
	}
	s.Holds(20*second, node(1), a, true)
	s.Tick(22 * second)
	s.red("one egress", 21*second, "n1 and n2", "1s")
}

// TestWithoutQuorum two hosts that do not hear each other both go on; with one they do not.
func TestWithoutQuorum(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.200")
	for _, quorum := range []bool{false, true} {
		s := begin(t)
		s.config.Quorum = quorum
		s.Apart(second, node(0), node(1), true)
		s.Holds(second, node(0), a, true)
		s.Holds(second, node(1), a, true)
		s.Tick(30 * second)
		if quorum {
			s.red("one egress", 2*second, "n1 and n2")
			continue
		}
		s.green()
		s.Apart(30*second, node(1), node(0), false)
		s.Tick(32 * second)
		s.red("one egress", 31*second, "n1 and n2")
	}
}

// TestMeanwhile: one fault is no reason to wait for its end.
func TestMeanwhile(t *testing.T) {
	s := begin(t)
	s.Meanwhile(8*second, WhileOne, "n1 loses power", "")
	s.green()
	s.Meanwhile(9*second, WhileOne, "n1 loses power", "nobody serves")
	s.red("recovery", 9*second, "n1 loses power", "nobody serves")
}

func TestRecovery(t *testing.T) {
	s := begin(t)
	s.Stands(second, Led, false, "nobody")
	s.Healed(10 * second)
	s.Stands(11*second, Led, false, "nobody")
	s.Stands(12*second, Led, true, "")
	s.Stands(30*second, Led, true, "")
	s.End(40 * second)
	s.green()
	s.Stands(41*second, Led, false, "n2 stepped down")
	s.red("recovery", 41*second, "an arbiter serves no more", "n2 stepped down")

	s = begin(t)
	s.Healed(10 * second)
	s.Stands(11*second, Logins, false, "refused")
	s.End(12 * second)
	s.red("recovery", 12*second, "a new login works", "refused")

	for g := range goals {
		s = begin(t)
		s.Healed(10 * second)
		s.Stands(10*second+g.Within(), g, false, "not yet")
		s.green()
		s.Stands(10*second+g.Within()+1, g, false, "still not")
		s.red("recovery", 10*second+g.Within(), g.String(), "still not")
	}
	if len(Bounds()) != int(goals) {
		t.Error("a goal has no bound")
	}
}

// TestKeysAfterAStop: who stood still for long has none that it had before.
func TestKeysAfterAStop(t *testing.T) {
	for name, c := range map[string]struct {
		stood time.Duration
		fresh bool
		right bool
	}{
		"short": {LongStop - 1, false, true}, "long": {LongStop, false, false}, "long, and granted anew": {LongStop, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.open(1, "alice", 1)
			s.Tables(second, []Table{table(1, s.has(1, 1))})
			s.Stopped(2*second, node(1), true)
			s.Stopped(2*second+c.stood, node(1), false)
			has := s.has(1, 1)
			s.Tables(2*second+c.stood+StopSettles, []Table{table(1, has)})
			s.green()
			if c.fresh {
				next := s.slice(1)
				next.Epoch = 2
				s.commit(registry.Command{GrantSlice: &registry.GrantSlice{Session: sessionID(1), Slice: next}})
				has = s.has(1, 2)
			}
			s.Tables(10*second, []Table{table(1, has)})
			if c.right {
				s.green()
			} else {
				s.red("I2", 10*second, "n2 has keys", "epoch 1", "stood still until 3.3s")
			}
		})
	}
}

// TestTakenForNothing: an address changes hands by an arbiter's word, or when its owner
// could be missed.
func TestTakenForNothing(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.200")
	for name, c := range map[string]struct {
		wrong []time.Duration // when one thing more is
		ends  time.Duration   // when one is over; 0: none
		right bool
	}{
		"nothing is wrong":          {nil, 0, false},
		"something is":              {[]time.Duration{19 * second}, 0, true},
		"something is, but just so": {[]time.Duration{20*second - Sudden + 1}, 0, false},
		"and one thing before":      {[]time.Duration{18 * second, 20*second - Sudden + 1}, 0, true},
		"it is over":                {[]time.Duration{second}, 20*second - Settled, false},
		"it was a moment ago":       {[]time.Duration{second}, 20*second - Settled + 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.Holds(second, node(0), a, true)
			for i, at := range c.wrong {
				s.Wrong(at, i+1)
			}
			if c.ends > 0 {
				s.Wrong(c.ends, len(c.wrong)-1)
			}
			s.Gone(20*second, node(0)) // no two have it
			s.Holds(20*second, node(1), a, true)
			if c.right {
				s.green()
			} else {
				s.red("one egress", 20*second, "n2 took 10.0.0.200", "n1 had")
			}
		})
	}
}

// TestTakenByAnArbitersWord is not for nothing, also where the next word comes meanwhile.
func TestTakenByAnArbitersWord(t *testing.T) {
	s := begin(t)
	part := s.Registry().Parts[0]
	s.Holds(second, node(0), part.Inside, true)
	s.now = 10 * second
	for i := range 2 {
		s.commit(registry.Command{MovePart: &registry.MovePart{Prefix: part.Prefix, Egress: node(1 + i), Second: node(0), Epoch: part.Epoch + uint64(i)}})
	}
	s.Gone(s.now, node(0))
	s.Holds(s.now+second, node(1), part.Inside, true)
	s.Gone(s.now+second, node(1))
	s.Holds(s.now+second, node(2), part.Inside, true)
	s.green()
	s.Gone(s.now+Settled, node(2))
	s.Holds(s.now+Settled, node(1), part.Inside, true)
	s.red("one egress", s.now+Settled, "n2 took", "n3 had")
}

// TestTermWithoutBarrier serves what others were told that is not.
func TestTermWithoutBarrier(t *testing.T) {
	s := begin(t)
	s.Serves(second, node(1), 4, 17, 17)
	s.green()
	s.Serves(2*second, node(2), 5, 20, 19)
	s.red("a term", 2*second, "n3 serves term 5", "begins at 20", "up to 19")
}
