package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestHeadless: the policy's word, else by the count of voters (design 2).
func TestHeadless(t *testing.T) {
	for _, tc := range []struct {
		policy uint64
		voters int
		want   uint64
	}{
		{0, 0, HeadlessAlone}, {0, 1, HeadlessAlone}, {0, 2, DefaultHeadless}, {0, 3, DefaultHeadless},
		{60, 1, 60}, {60, 3, 60}, {2 * HeadlessAlone, 3, 2 * HeadlessAlone},
	} {
		s := &State{Policy: Policy{Headless: tc.policy}, Voters: tc.voters}
		if got := s.Headless(); got != tc.want || s.PolicyInForce().Headless != tc.want {
			t.Errorf("policy %d s, %d voters: %d s, want %d", tc.policy, tc.voters, got, tc.want)
		}
	}
}

// unset is a mesh whose policy names no headless time.
func unset(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.wait(100)
	f.s.Policy.Headless, f.s.HeadlessFloor = 0, 0 // as founded so
	return f
}

func (f *fixture) voters(n int) {
	f.t.Helper()
	f.must(Command{CountVoters: &CountVoters{Voters: n}})
}

// I13: what a node believed while one node voted holds addresses and indexes on
// after two more got their votes, and the other way round nothing is shortened.
func TestHoldOutlivesCountOfVoters(t *testing.T) {
	f := unset(t)
	f.client("alice")
	f.voters(3)
	lease := f.open(1, "alice").Leases[0]
	f.end(1)
	if got := f.s.Leases.Get(lease).Free; got != 100+HeadlessAlone+HoldMargin {
		t.Errorf("free at %d: a node that missed the new voters may run longer", got)
	}
	f.wait(HeadlessAlone)
	f.open(2, "alice")
	f.end(2)
	if got := f.s.Leases.Get(lease).Free; got != 100+HeadlessAlone+DefaultHeadless+HoldMargin {
		t.Errorf("free at %d: nobody believes the longer time any more", got)
	}
	f.voters(1)
	f.join(1)
	f.must(Command{RemoveNode: &RemoveNode{ID: node(1)}})
	if got := f.s.Indexes[2].Free; got != 100+2*HeadlessAlone+HoldMargin {
		t.Errorf("index free at %d with one voter", got)
	}
}

// I13: a policy that names a shorter time than the voters' count gave.
func TestHoldOutlivesUnsetPolicy(t *testing.T) {
	f := unset(t)
	f.must(Command{PutPolicy: &PutPolicy{Policy: Policy{Headless: 10}}})
	f.join(1)
	f.must(Command{RemoveNode: &RemoveNode{ID: node(1)}})
	if got := f.s.Indexes[2].Free; got != 100+HeadlessAlone+HoldMargin {
		t.Errorf("free at %d: by the new policy only", got)
	}
}

// I13: a snapshot of a mesh with three voters takes over from one with one.
func TestRestoreKeepsTheLongerHeadless(t *testing.T) {
	f := unset(t)
	s := f.s.Clone()
	s.Voters = 3
	s.Succeed(f.s)
	if s.HeadlessFloor != 100+HeadlessAlone {
		t.Errorf("floor %d", s.HeadlessFloor)
	}
	s = f.s.Clone()
	s.Succeed(New())
	if s.HeadlessFloor != 0 {
		t.Errorf("floor %d from a registry that was never founded", s.HeadlessFloor)
	}
}

func TestCountVotersLimits(t *testing.T) { // I10
	f := newFixture(t)
	f.voters(MaxVoters)
	f.refuse(ErrInvalid, Command{CountVoters: &CountVoters{Voters: MaxVoters + 1}})
	f.refuse(ErrInvalid, Command{CountVoters: &CountVoters{}})
}

func TestPolicySuites(t *testing.T) { // I10
	f := newFixture(t)
	put := func(suites ...uint16) Command { return Command{PutPolicy: &PutPolicy{Policy: Policy{Suites: suites}}} }
	full := []uint16{8, 7, 6, 5, 4, 3, 2, 1}
	f.must(put(full...))
	if got := f.s.Policy.Suites; !slices.Equal(got, full) || len(got) != MaxSuites {
		t.Errorf("suites %v", got)
	}
	f.refuse(ErrInvalid, put(append(full, 9)...))
	f.refuse(ErrInvalid, put(1, 2, 1))
	f.refuse(ErrInvalid, put(0))
	f.refuse(ErrInvalid, Command{PutPolicy: &PutPolicy{Policy: Policy{HandOn: "whispered"}}})
	f.must(Command{PutPolicy: &PutPolicy{Policy: Policy{HandOn: HandOnSealed}}})
	if v := f.s.version(); v != 3 { // one that dropped it would hand on in clear
		t.Errorf("snapshot version %d", v)
	}
}

// TestSuitesNeedTheNewerCodec: a replica that does not know the suites of a policy
// would admit by any, so it must not read past them.
func TestSuitesNeedTheNewerCodec(t *testing.T) {
	for want, suites := range map[byte][]uint16{1: nil, 3: {2}} {
		policy := Policy{Headless: 7, Suites: suites}
		raw, err := EncodeCommand(Command{ID: CommandID{1}, PutPolicy: &PutPolicy{Policy: policy}})
		if err != nil || raw[len(commandMagic)] != want {
			t.Errorf("%v: command version %d, %v", suites, raw[len(commandMagic)], err)
		}
		raw, err = EncodeSnapshot(&State{Policy: policy})
		if err != nil || raw[len(snapshotMagic)] != want {
			t.Errorf("%v: snapshot version %d, %v", suites, raw[len(snapshotMagic)], err)
		}
	}
}

// TestUpgradeOfPolicy: what version 1 left out meant the default.
func TestUpgradeOfPolicy(t *testing.T) {
	const id = `{"id":"01000000000000000000000000000000",`
	for raw, want := range map[string]uint64{
		"mcrc\x01" + id + `"put_policy":{"policy":{}}}`:               DefaultHeadless,
		"mcrc\x01" + id + `"put_policy":{"policy":{"headless":7}}}`:   7,
		"mcrc\x02" + id + `"put_policy":{"policy":{}}}`:               0,
		"mcrc\x02" + id + `"put_policy":{"policy":{"headless":900}}}`: 900,
	} {
		c, err := DecodeCommand([]byte(raw))
		if err != nil || c.PutPolicy.Policy.Headless != want {
			t.Errorf("%q: %+v, %v", raw, c.PutPolicy, err)
		}
	}
}

// TestPolicyNames: so many servers and domains, and nothing that is none.
func TestPolicyNames(t *testing.T) { // I10
	f := newFixture(t)
	put := func(p Policy) Command { return Command{PutPolicy: &PutPolicy{Policy: p}} }
	servers, search := make([]netip.Addr, MaxDNS), make([]string, MaxSearch)
	for i := range servers {
		servers[i] = netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
	}
	for i := range search {
		search[i] = fmt.Sprintf("d%d.corp-1.example", i)
	}
	f.must(put(Policy{DNS: servers, Search: search}))
	if got := f.s.Policy; !slices.Equal(got.DNS, servers) || !slices.Equal(got.Search, search) {
		t.Errorf("%v, %v", got.DNS, got.Search)
	}
	for _, bad := range []Policy{
		{DNS: append(slices.Clone(servers), servers[0])}, {Search: append(slices.Clone(search), "x.example")},
		{DNS: []netip.Addr{{}}}, {DNS: []netip.Addr{netip.IPv4Unspecified()}}, {DNS: []netip.Addr{netip.MustParseAddr("fe80::1%eth0")}},
		{Search: []string{""}}, {Search: []string{"a..b"}}, {Search: []string{"a b"}}, {Search: []string{strings.Repeat("a", 64)}},
		{Search: []string{strings.Repeat("a.", 127)}},
	} {
		f.refuse(ErrInvalid, put(bad))
	}
	if !(Policy{DNS: servers}).newer() || !(Policy{Search: search}).newer() {
		t.Error("an older replica would drop them")
	}
}

// TestExposedMembersHaveHandOnSealed: as long as strangers reach the inside interface
// of one member they could send in the name of any, whatever the policy says. A build
// that does not know that would let them, so it must not read past it.
func TestExposedMembersHaveHandOnSealed(t *testing.T) {
	f := newFixture(t)
	want := func(why string, inForce HandOn, version byte) {
		t.Helper()
		if got := f.s.PolicyInForce().HandOn; got != inForce {
			t.Errorf("%s: hand-on is %q, want %q", why, got, inForce)
		}
		if got := f.s.version(); got != version {
			t.Errorf("%s: snapshot version %d, want %d", why, got, version)
		}
	}
	at := func(exposed bool, outer, inside string) Command {
		return Command{UpdateNode: &UpdateNode{ID: node(1), Exposed: exposed, Capacity: 1, Mbit: 1,
			Outer: netip.MustParseAddrPort(outer), Inside: netip.MustParseAddr(inside)}}
	}
	f.must(Command{PutPolicy: &PutPolicy{Policy: Policy{HandOn: HandOnClear, Headless: 100}}})
	f.join(1)
	want("two legs", HandOnClear, 2)
	f.must(at(true, "203.0.113.7:6484", "10.0.0.7"))
	want("one leg behind a NAT", HandOnSealed, 4)
	f.must(at(false, "192.0.2.7:6484", "192.0.2.7"))
	want("one leg, of a build that does not say so", HandOnSealed, 2)
	f.must(Command{RemoveNode: &RemoveNode{ID: node(1)}})
	want("it left", HandOnClear, 2)
	for want, c := range map[byte]Command{1: at(false, "192.0.2.7:6484", "192.0.2.7"), 4: at(true, "192.0.2.7:6484", "192.0.2.7")} {
		c.ID = CommandID{1}
		if raw, err := EncodeCommand(c); err != nil || raw[len(commandMagic)] != want {
			t.Errorf("command %x, %v, want version %d", raw, err, want)
		}
	}
}
