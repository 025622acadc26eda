package registry

import (
	"errors"
	"maps"
	"net/netip"
	"testing"
)

// crowded is a mesh of three nodes in whose first part one address is left.
func crowded(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.join(1)
	f.join(2)
	f.client("alice")
	f.client("bob")
	for a := netip.MustParseAddr("10.80.0.17"); a.As4()[3] < 127; a = a.Next() {
		f.s.putLease(a, &Lease{Client: "other", Free: 1 << 40})
	}
	return f
}

// device opens session n of a client's device on one node.
func (f *fixture) device(n int, client string, dev, on int) *Session {
	f.t.Helper()
	f.must(Command{OpenSession: tracked(f.opening(n, client, f.slice(0, on)), dev)})
	return f.s.Sessions.Get(session(n))
}

func (f *fixture) acknowledge(on int, sessions ...int) {
	f.t.Helper()
	f.must(acknowledgement(on, sessions...))
}

func acknowledgement(on int, sessions ...int) Command {
	c := &Acknowledge{Agent: node(on), Boot: boot(on)}
	for _, n := range sessions {
		c.Sessions = append(c.Sessions, session(n))
	}
	return Command{Acknowledge: c}
}

// full expects that bob gets no lease.
func (f *fixture) full(n int) {
	f.t.Helper()
	f.refuse(ErrExhausted, Command{OpenSession: tracked(f.opening(n, "bob", f.slice(0, 0)), 9)})
}

// I13: the lease is free once every agent that held an SA has acknowledged, those of
// epochs that were superseded as well.
func TestLeaseIsFreeWhenAllAcknowledged(t *testing.T) {
	f := crowded(t)
	first := f.device(1, "alice", 1, 0).Leases[0]
	next := f.slice(0, 1)
	next.Epoch = 2
	f.must(Command{GrantSlice: &GrantSlice{Session: session(1), Slice: next}}) // node 0 may not have heard
	f.refuse(ErrInvalid, acknowledgement(0, 1))                                // it is not over
	f.must(Command{RevokeClient: &RevokeClient{Name: "alice"}})
	f.full(2)
	f.acknowledge(1, 1)
	f.full(2)
	f.refuse(ErrStale, Command{Acknowledge: &Acknowledge{Agent: node(0), Boot: boot(7), Sessions: []SessionID{session(1)}}})
	f.acknowledge(0, 1)
	if got := f.device(2, "bob", 9, 0).Leases[0]; got != first {
		t.Fatalf("bob got %s", got)
	}
}

// I13: an agent speaks for its present process. What a state says of another one, as a
// later build may leave it, waits for its time.
func TestAcknowledgeIsOfOneProcess(t *testing.T) {
	f := crowded(t)
	first := f.device(1, "alice", 1, 0).Leases[0]
	f.end(1)
	f.s.Leases.Get(first).Holders[0].Boot = boot(7)
	f.acknowledge(0, 1)
	f.full(2)
}

// I13: a node that was restarted, or removed for longer than headless, holds nothing.
func TestDeadHoldersNeedNotAnswer(t *testing.T) {
	f := crowded(t)
	f.device(1, "alice", 1, 1)
	f.must(Command{UpdateNode: &UpdateNode{ID: node(1), Boot: boot(1)}})
	f.end(1)
	f.full(2)
	f.must(Command{UpdateNode: &UpdateNode{ID: node(1), Boot: boot(77)}})
	f.device(2, "bob", 9, 2)
	f.must(Command{RemoveNode: &RemoveNode{ID: node(2)}})
	f.wait(150)
	f.end(2)
	f.refuse(ErrExhausted, Command{OpenSession: tracked(f.opening(3, "alice", f.slice(0, 0)), 1)})
	f.wait(10) // 160 since it was removed, 10 since the session ended
	f.device(3, "alice", 1, 0)
}

// I13: who could still run an SA of an earlier session of the address is waited for,
// though its device has the lease back at once.
func TestLeaseIsInheritedWithItsHolders(t *testing.T) {
	f := crowded(t)
	f.device(1, "alice", 1, 1)
	again := f.device(2, "alice", 1, 0)
	if old := f.s.Sessions.Get(session(1)); old.State != SessionEnded || old.Reason != ReasonReplaced {
		t.Fatalf("the device's earlier session: %+v", old)
	}
	if len(again.Holders) != 2 {
		t.Fatalf("holders %+v", again.Holders)
	}
	f.wait(50)
	f.end(2)
	f.acknowledge(0, 2)
	f.full(3)
	f.wait(110) // the first session's end is 160 s ago
	f.device(3, "bob", 9, 0)
}

// I13: nobody knows who held SAs of a session that an older build opened.
func TestUntrackedSessionsWaitForTime(t *testing.T) {
	f := crowded(t)
	f.open(1, "alice")
	f.end(1)
	f.device(2, "alice", 1, 1)
	f.end(2)
	f.acknowledge(1, 2)
	f.acknowledge(0, 1)
	f.full(3)
	f.wait(159)
	f.full(3)
	f.wait(1)
	f.device(3, "bob", 9, 0)
}

// I10: at MaxHolders a login is refused, and nothing is left to time alone: a client
// that logs in and out as fast as it can frees its address by acknowledgements, too.
func TestHolderLimit(t *testing.T) {
	f := crowded(t)
	var all []int
	for i := range MaxHolders {
		f.device(i, "alice", 1, 1)
		all = append(all, i)
	}
	again := Command{OpenSession: tracked(f.opening(MaxHolders, "alice", f.slice(0, 1)), 1)}
	last := f.s.Sessions.Get(session(MaxHolders - 1))
	if !last.Tracked || len(last.Holders) != MaxHolders {
		t.Fatalf("%d holders", len(last.Holders))
	}
	f.refuse(ErrUnconfirmed, again)
	f.end(MaxHolders - 1)
	f.refuse(ErrUnconfirmed, again)
	f.acknowledge(1, all[0])
	f.device(MaxHolders, "alice", 1, 1)
	f.end(MaxHolders)
	f.acknowledge(1, append(all, MaxHolders)...)
	f.device(1000, "bob", 9, 0) // the address is free
	f.refuse(ErrInvalid, Command{Acknowledge: &Acknowledge{Agent: node(1), Boot: boot(1)}})
	f.refuse(ErrInvalid, Command{Acknowledge: &Acknowledge{Agent: node(1), Boot: boot(1), Sessions: make([]SessionID, MaxAcknowledged+1)}})
}

// A device has its own lease back after a crash, whatever its client's others do, and
// ends nothing of another client that has its id.
func TestLeasesOfDevices(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	f.client("mallory")
	one, two := f.device(1, "alice", 1, 0).Leases[0], f.device(2, "alice", 2, 0).Leases[0]
	f.device(3, "mallory", 1, 0)
	for i := range 40 {
		if got := f.device(10+i, "alice", 1, 0).Leases[0]; got != one {
			t.Fatalf("crash %d: lease %s, had %s", i, got, one)
		}
	}
	if f.s.LivingSessions("alice") != 2 || f.s.LivingSessions("mallory") != 1 {
		t.Fatalf("alice has %d sessions, mallory %d", f.s.LivingSessions("alice"), f.s.LivingSessions("mallory"))
	}
	if got, ok := f.s.LastLease("alice", device(1)); !ok || got != one {
		t.Fatalf("last lease %s, its session lives", got)
	}
	f.end(2)
	f.end(49)
	if got := f.device(60, "alice", 2, 0).Leases[0]; got != two {
		t.Fatalf("the second device got %s, had %s", got, two)
	}
	if got := f.device(61, "alice", 3, 0).Leases[0]; got == one {
		t.Fatal("a third device got the first one's lease while others are free")
	}
	old := tracked(f.opening(70, "alice", f.slice(0, 0)), 0)
	f.must(Command{OpenSession: old})
	same := tracked(f.opening(71, "alice", f.slice(0, 0)), 0)
	same.Session.Key = old.Session.Key
	f.must(Command{OpenSession: same})
	if ses := f.s.Sessions.Get(session(70)); ses.State != SessionEnded {
		t.Fatal("a session key is a device where there is none")
	}
}

// TestNewDevicesUseUpNoPool: a client of which each login is a new device, and whose
// agents have yet to say that the sessions before are over, holds as many addresses as
// it may have sessions, and no more. Others get theirs meanwhile, and its own device
// the one that it had.
func TestNewDevicesUseUpNoPool(t *testing.T) {
	f := newFixture(t)
	f.client("mallory")
	f.client("bob")
	f.must(Command{PutPolicy: &PutPolicy{Policy: Policy{Sessions: 4, Headless: 100}}})
	first := f.device(1, "mallory", 1, 0).Leases[0]
	had := map[netip.Addr]bool{first: true}
	for i := range 30 {
		f.end(1 + i)
		had[f.device(2+i, "mallory", 2+i, 0).Leases[0]] = true
	}
	if len(had) > 5 {
		t.Errorf("%d addresses are taken by one session at a time", len(had))
	}
	if got := f.device(50, "bob", 99, 0).Leases[0]; had[got] {
		t.Error("bob has an address for which mallory's agents may still run")
	}
	f.end(31)
	f.must(Command{PutPolicy: &PutPolicy{Policy: Policy{Headless: 100}}})
	if got := f.device(51, "mallory", 77, 0).Leases[0]; had[got] {
		t.Error("addresses are kept scarce where sessions are not counted")
	}
}

// I10: sessions of one client by policy; those that a login ends do not count.
func TestSessionsOfAClient(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	f.client("bob")
	put := func(c PutPolicy) Command { c.Policy.Headless = 100; return Command{PutPolicy: &c} }
	f.must(put(PutPolicy{Policy: Policy{Sessions: 2}, Over: 1}))
	f.refuse(ErrStale, put(PutPolicy{Policy: Policy{Sessions: 3}, Over: 1}))
	f.refuse(ErrInvalid, put(PutPolicy{Policy: Policy{Sessions: MaxSessions + 1}}))
	f.device(1, "alice", 1, 0)
	f.device(2, "alice", 2, 0)
	f.device(3, "bob", 3, 0)
	f.refuse(ErrTooMany, Command{OpenSession: tracked(f.opening(4, "alice", f.slice(0, 0)), 3)})
	f.refuse(ErrTooMany, Command{OpenSession: f.opening(5, "alice", f.slice(0, 0))})
	f.device(6, "alice", 2, 0)
	f.end(1)
	f.device(7, "alice", 3, 0)
	f.must(put(PutPolicy{}))
	f.device(8, "alice", 4, 0)
}

// TestSizeOfARange: the address that it leaves out counts where it is in the range, at
// either end too.
func TestSizeOfARange(t *testing.T) {
	at := netip.MustParseAddr
	for skip, want := range map[netip.Addr]int{
		{}: 10, at("10.0.0.5"): 9, at("10.0.0.1"): 9, at("10.0.0.10"): 9, at("10.0.0.11"): 10, at("10.0.0.0"): 10, at("fd00::5"): 10,
	} {
		if got := (span{low: at("10.0.0.1"), high: at("10.0.0.10"), skip: skip}).size(); got != want {
			t.Errorf("without %v: %d addresses, want %d", skip, got, want)
		}
	}
}

func TestPoolUse(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	f.device(1, "alice", 1, 0)
	f.device(2, "alice", 2, 0)
	f.open(3, "alice")
	f.end(2)
	f.end(3)
	a := f.s.PoolUse()[0]
	if a.Prefix != testPartA || a.Size != 111 || a.Open != 1 || a.Held != 2 || a.Until != 160 || a.Free() != 108 {
		t.Fatalf("%+v", a)
	}
	f.acknowledge(0, 2)
	if a = f.s.PoolUse()[0]; a.Held != 1 {
		t.Fatalf("%+v", a)
	}
	dual := span{low: netip.MustParseAddr("fd77::10"), high: netip.MustParseAddr("fd77::ffff:ffff:ffff:fffe")}
	if n := dual.size(); n != MaxLeases {
		t.Fatalf("%d of a /64", n)
	}
}

// Nothing of before devices is written in a version that an older build refuses.
func TestVersionOfDevices(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	for want, c := range map[byte]Command{
		1: {OpenSession: f.opening(1, "alice")},
		4: {OpenSession: tracked(f.opening(1, "alice"), 0)},
	} {
		if got := c.version(); got != want {
			t.Errorf("an opening in version %d, want %d", got, want)
		}
	}
	f.open(1, "alice")
	f.end(1)
	if v := f.s.version(); v != 2 {
		t.Errorf("a state in version %d", v)
	}
	f.device(2, "alice", 1, 0)
	f.end(2)
	f.wait(EndedKept)
	if v := f.s.version(); v != 4 || f.s.Sessions.Len() != 0 {
		t.Errorf("a state with a device's lease in version %d", v)
	}
	policy := f.s.Policy
	policy.Sessions = 3
	for _, c := range []Command{acknowledgement(0, 1), {PutPolicy: &PutPolicy{Policy: policy}}, {PutPolicy: &PutPolicy{Over: 1}}} {
		if c.version() != 4 {
			t.Errorf("%+v in version %d", c, c.version())
		}
	}
}

// I13: after operator recover there may be grants that this log does not have.
func TestReincarnationForgetsAcknowledgements(t *testing.T) {
	f := crowded(t)
	f.device(1, "alice", 1, 1)
	f.must(Command{Reincarnate: &Reincarnate{Incarnation: 9}})
	f.end(1)
	f.acknowledge(1, 1)
	f.full(2)
	f.wait(160)
	f.device(2, "bob", 9, 0)
}

// I13: a restored snapshot does not know whom the state before it granted SAs.
func TestRestoreForgetsAcknowledgements(t *testing.T) {
	f := crowded(t)
	f.device(1, "alice", 1, 1)
	f.end(1)
	f.acknowledge(1, 1)
	s := f.s.Clone()
	lease := f.device(2, "bob", 9, 0).Leases[0]
	s.Succeed(f.s)
	if l := s.Leases.Get(lease); l.Client != "bob" || s.free(l) {
		t.Fatalf("what bob has since is free: %+v", l)
	}
	r := Apply(s, 1000, 9, Command{ID: CommandID{99}, OpenSession: tracked(f.opening(3, "alice", f.slice(0, 0)), 1)})
	if !errors.Is(r.Err(), ErrExhausted) {
		t.Fatalf("alice got %v", r)
	}
}

// TestUnacknowledgedCostsWhatWaits: what agents are to be asked is found without a look
// at what is active or free, and is all that there is.
func TestUnacknowledgedCostsWhatWaits(t *testing.T) {
	waiting := 0
	for seed := range uint64(20) {
		r := newRun(t, seed)
		for range 300 {
			r.step()
			want := make(map[Holder]int)
			for _, l := range r.s.Leases.All() {
				for _, h := range l.Holders {
					if l.idle() && !r.s.free(l) {
						want[h]++
					}
				}
			}
			for _, ses := range r.s.Sessions.All() {
				for _, h := range ses.Holders {
					if h.Session != ses.ID {
						want[h]++
					}
				}
			}
			got := make(map[Holder]int)
			r.s.Unacknowledged(func(h Holder) { got[h]++ })
			if !maps.Equal(got, want) {
				t.Fatalf("seed %d, entry %d: %v, not %v", seed, r.index, got, want)
			}
			waiting += len(want)
		}
	}
	if waiting == 0 {
		t.Error("nothing ever waits")
	}
	if f := crowd(t, 100); f.s.index.waits.Len() != 0 {
		t.Errorf("of 100 active sessions %d places are looked at", f.s.index.waits.Len())
	}
}
