package registry

import (
	"errors"
	"net/netip"
	"testing"
)

// dualFounding is founding with a pool of both families: the second part's
// range of IPv6 is small enough to be used up.
func dualFounding() *Found {
	c := founding()
	c.Cluster.Pool = append(c.Cluster.Pool, prefix("fd80::/122"))
	c.Parts[0].Other = Range{Prefix: prefix("fd80::/123"), Inside: netip.MustParseAddr("fd20::201")}
	c.Parts[1].Other = Range{Prefix: prefix("fd80::20/123")}
	return c
}

func dualFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, s: New(), term: 1}
	f.must(Command{Found: dualFounding()})
	f.client("alice")
	return f
}

// A session has an address of each family, of one part, and both lead back to it.
func TestSessionLeasesBothFamilies(t *testing.T) {
	f := dualFixture(t)
	ses := f.open(1, "alice")
	if len(ses.Leases) != 2 || !ses.Leases[0].Is4() || !ses.Leases[1].Is6() {
		t.Fatalf("leases %v", ses.Leases)
	}
	for _, lease := range ses.Leases {
		if f.s.Leases.Get(lease).Session != ses.ID {
			t.Errorf("%s does not lead to its session", lease)
		}
		if p := f.s.Parts[0]; p.Prefix != testPartA || !p.Contains(lease) {
			t.Errorf("%s is not of part %s", lease, p.Prefix)
		}
	}
	had := ses.Leases
	f.end(1)
	if again := f.open(2, "alice").Leases; again[0] != had[0] || again[1] != had[1] {
		t.Errorf("alice came back to %v, had %v", again, had)
	}
	if next := f.open(3, "alice").Leases; next[0] != had[0].Next() || next[1] != had[1].Next() {
		t.Errorf("next to %v are %v", had, next)
	}
}

// Both addresses move with the part, and the session once.
func TestMovePartOfBothFamilies(t *testing.T) {
	f := dualFixture(t)
	f.must(Command{CreateToken: &CreateToken{Token: Token{ID: "tok", Verify: []byte("v"), May: anyRoles, Uses: 2, Expires: 50}}})
	f.join(1)
	ses := f.open(1, "alice")
	f.must(Command{MovePart: &MovePart{Prefix: testPartA, Epoch: 1, Egress: node(1), Second: node(0)}})
	ses = f.s.Sessions.Get(ses.ID)
	if ses.Egress != node(1) || ses.Second != node(0) || f.s.Parts[0].Epoch != 2 {
		t.Errorf("session %+v, part %+v", ses, f.s.Parts[0])
	}
	if got := f.s.Parts[0].Insides(); len(got) != 1 || got[0] != netip.MustParseAddr("fd20::201") {
		t.Errorf("inside addresses %v", got)
	}
}

// One family's range is used up: nothing of the other's is taken.
func TestOneFamilyExhausted(t *testing.T) {
	f := dualFixture(t)
	opened := 0
	for ; opened < 100; opened++ {
		c := f.opening(opened, "alice", f.slice(0, 0))
		c.Part = testPartB
		r := f.apply(Command{OpenSession: c})
		if r.Err() == nil {
			continue
		}
		if !errors.Is(r.Err(), ErrExhausted) {
			t.Fatal(r.Err())
		}
		break
	}
	// fd80::21 to fd80::3e: the first and the last are nobody's.
	if opened != 30 || f.s.Leases.Len() != 2*opened {
		t.Errorf("%d sessions with %d leases", opened, f.s.Leases.Len())
	}
}

// A session of both families takes two leases, or none.
func TestLimitOfLeasesInBothFamilies(t *testing.T) { // I10
	f := dualFixture(t)
	for i := range f.s.Room().Leases - 1 {
		f.s.putLease(netip.AddrFrom4([4]byte{99, byte(i >> 16), byte(i >> 8), byte(i)}), &Lease{Free: 1 << 40})
	}
	f.refuse(ErrExhausted, Command{OpenSession: f.opening(1, "alice", f.slice(0, 0))})
	f.s.Leases.Delete(netip.AddrFrom4([4]byte{99}))
	if f.open(1, "alice"); f.s.Leases.Len() != f.s.Room().Leases {
		t.Errorf("%d leases", f.s.Leases.Len())
	}
}

func TestFoundRefusesWrongRanges(t *testing.T) {
	for name, spoil := range map[string]func(*Found){
		"outside the pool": func(c *Found) { c.Parts[0].Other.Prefix = prefix("fd81::/123") },
		"overlap":          func(c *Found) { c.Parts[1].Other.Prefix = prefix("fd80::/123") },
		"not masked":       func(c *Found) { c.Parts[0].Other.Prefix = prefix("fd80::1/123") },
		"one family":       func(c *Found) { c.Parts[0].Other.Prefix, c.Parts = testPartB, c.Parts[:1] },
		"inside address":   func(c *Found) { c.Parts[0].Other.Inside = netip.MustParseAddr("10.0.0.1") },
	} {
		f := &fixture{t: t, s: New(), term: 1}
		c := dualFounding()
		spoil(c)
		if r := f.apply(Command{Found: c}); !errors.Is(r.Err(), ErrInvalid) {
			t.Errorf("%s: %v", name, r.Err())
		}
	}
}

// An older build would take a part of both families for one of the first alone:
// it is told that it does not understand.
func TestBothFamiliesNeedVersion3(t *testing.T) {
	raw, err := EncodeCommand(Command{ID: CommandID{1}, Found: dualFounding()})
	if err != nil || raw[len(commandMagic)] != 3 {
		t.Errorf("command of version %d, %v", raw[len(commandMagic)], err)
	}
	s := dualFixture(t).s
	if snapshot, err := EncodeSnapshot(s); err != nil || snapshot[len(snapshotMagic)] != 3 {
		t.Errorf("snapshot of version %d, %v", snapshot[len(snapshotMagic)], err)
	}
	if back := roundTrip(t, s); back.Parts[0] != s.Parts[0] {
		t.Errorf("%+v came back as %+v", s.Parts[0], back.Parts[0])
	}
}
