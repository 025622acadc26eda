package registry

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestOpenSession(t *testing.T) {
	f := newFixture(t)
	f.join(1)
	f.client("alice")
	f.term = 4
	r := f.must(Command{OpenSession: f.opening(1, "alice", f.slice(3, 1), f.slice(0, 0))})
	ses := f.s.Sessions.Get(session(1))
	if r.Session != ses.ID || ses.Slices[0].Number != 0 || ses.Slices[1].Number != 3 {
		t.Fatalf("result %+v slices %+v", r, ses.Slices)
	}
	for _, sl := range ses.Slices { // I6
		if sl.Epoch != 1 || sl.Index != f.index || sl.Term != 4 || sl.State != SliceGranted {
			t.Fatalf("slice %+v at entry %d", sl, f.index)
		}
	}
	if ses.Egress != node(0) || ses.Mode != ModeAuto || ses.EgressKind != EgressMasquerade || ses.Policy != 1 {
		t.Fatalf("session %+v", ses)
	}
	if f.s.Leases.Get(ses.Leases[0]).Session != ses.ID {
		t.Fatal("the lease does not lead to its session")
	}
	if p := f.s.Parts[0]; p.Prefix != testPartA || !p.Contains(ses.Leases[0]) {
		t.Fatalf("part %+v", p)
	}
	again := f.opening(2, "alice", f.slice(0, 0))
	again.Session.Request = request(1)
	if r := f.must(Command{OpenSession: again}); r.Session != session(1) || f.s.Sessions.Len() != 1 {
		t.Fatalf("the same request opened %s", r.Session)
	}
}

func TestOpenSessionRefusals(t *testing.T) {
	f := newFixture(t)
	f.join(1)
	f.join(2)
	f.client("alice")
	f.client("mallory")
	f.must(Command{RevokeClient: &RevokeClient{Name: "mallory"}})
	f.must(Command{SetRoles: &SetRoles{ID: node(2), Is: RoleAgent, Drained: true}})
	f.must(Command{PutPolicy: &PutPolicy{Policy: Policy{Headless: 100, Modes: []Mode{ModeAuto, ModePin}}}})
	f.open(9, "alice")
	used := f.s.Sessions.Get(session(9)).Slices[0].SPI
	type edit = func(*OpenSession)
	for name, tc := range map[string]struct {
		want *Error
		edit edit
	}{
		"unknown client":  {ErrNotFound, func(c *OpenSession) { c.Session.Client = "bob" }},
		"revoked client":  {ErrRevoked, func(c *OpenSession) { c.Session.Client = "mallory" }},
		"known id":        {ErrExists, func(c *OpenSession) { c.Session.ID = session(9) }},
		"no id":           {ErrInvalid, func(c *OpenSession) { c.Session.ID = SessionID{} }},
		"no request":      {ErrInvalid, func(c *OpenSession) { c.Session.Request = RequestID{} }},
		"no key":          {ErrInvalid, func(c *OpenSession) { c.Session.Key = identity.PublicKey{} }},
		"identity":        {ErrInvalid, func(c *OpenSession) { c.Session.Identity = nil }},
		"hello":           {ErrInvalid, func(c *OpenSession) { c.Session.Hello = hash[1:] }},
		"mode":            {ErrInvalid, func(c *OpenSession) { c.Session.Mode = "fast" }},
		"mode forbidden":  {ErrPolicy, func(c *OpenSession) { c.Session.Mode = ModePacket }},
		"shares":          {ErrInvalid, func(c *OpenSession) { c.Session.Shares = "most" }},
		"part":            {ErrNotFound, func(c *OpenSession) { c.Part = testPool }},
		"no slices":       {ErrInvalid, func(c *OpenSession) { c.Slices = nil }},
		"number twice":    {ErrInvalid, func(c *OpenSession) { c.Slices[1].Number = 0 }},
		"SPI twice":       {ErrPrekey, func(c *OpenSession) { c.Slices[1].SPI = c.Slices[0].SPI }},
		"two boots":       {ErrPrekey, func(c *OpenSession) { c.Slices[1].Boot = boot(77) }},
		"SPI of another":  {ErrPrekey, func(c *OpenSession) { c.Slices[0].SPI ^= 1 << indexShift }},
		"SPI used before": {ErrPrekey, func(c *OpenSession) { c.Slices[0] = f.slice(0, 0); c.Slices[0].SPI = used }},
		"weight 0":        {ErrInvalid, func(c *OpenSession) { c.Slices[0].Weight = 0 }},
		"no suite":        {ErrInvalid, func(c *OpenSession) { c.Slices[0].Suite = 0 }},
		"no boot":         {ErrInvalid, func(c *OpenSession) { c.Slices = c.Slices[:1]; c.Slices[0].Boot = identity.BootID{} }},
		"epoch":           {ErrStale, func(c *OpenSession) { c.Slices[0].Epoch = 2 }},
		"drained agent":   {ErrStale, func(c *OpenSession) { c.Slices[0] = f.slice(0, 2) }},
		"beside its peer": {ErrInvalid, func(c *OpenSession) { c.Session.Peer = node(0) }},
		"unknown agent":   {ErrNotFound, func(c *OpenSession) { c.Slices[0].Agent = node(55) }},
	} {
		t.Run(name, func(t *testing.T) {
			c := f.opening(1, "alice", f.slice(0, 1), f.slice(1, 1))
			tc.edit(c)
			f.t = t
			f.refuse(tc.want, Command{OpenSession: c})
		})
	}
	f.t = t
	other := f.opening(1, "alice", f.slice(0, 1))
	other.Session.Request = request(9)
	f.client("bob")
	other.Session.Client = "bob"
	f.refuse(ErrInvalid, Command{OpenSession: other})
	f.end(9)
	other.Session.Client = "alice"
	f.refuse(ErrEnded, Command{OpenSession: other})
}

// TestResumptionNamesItsKey: without it, or without the hello that named it, the
// session would be nobody's from then on.
func TestResumptionNamesItsKey(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	ses := f.open(1, "alice")
	for _, c := range []ResumeKey{
		{Request: request(2), Hello: hash}, {Request: request(2), Key: key(9)},
		{Request: request(2), Key: key(9), Hello: hash[1:]}, {Key: key(9), Hello: hash},
	} {
		c.Session = ses.ID
		f.refuse(ErrInvalid, Command{ResumeKey: &c})
	}
}

// TestRevokedClientDoesNotResume: the registry refuses by itself. A revocation ends
// sessions too, but one that is older than that rule must not come back either.
func TestRevokedClientDoesNotResume(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	ses := f.open(1, "alice")
	resume := Command{ResumeKey: &ResumeKey{Session: ses.ID, Request: request(2), Key: key(9), Hello: hash}}
	f.must(resume)
	f.s.Clients.Put("alice", &Client{Name: "alice", Revoked: true})
	resume.ResumeKey.Request = request(3)
	f.refuse(ErrRevoked, resume)
	f.s.Clients.Delete("alice")
	f.refuse(ErrNotFound, resume)
}

func TestSliceLimit(t *testing.T) { // I10
	f := newFixture(t)
	f.client("alice")
	var all []Slice
	for i := range MaxSlices + 1 {
		all = append(all, f.slice(uint8(i), 0))
	}
	f.refuse(ErrInvalid, Command{OpenSession: f.opening(1, "alice", all...)})
	f.must(Command{OpenSession: f.opening(1, "alice", all[:MaxSlices]...)})
	all[MaxSlices].Epoch = 1
	f.refuse(ErrExhausted, Command{GrantSlice: &GrantSlice{Session: session(1), Slice: all[MaxSlices]}})
	f.must(Command{PutPolicy: &PutPolicy{Policy: Policy{Slices: 2}}})
	f.refuse(ErrInvalid, Command{OpenSession: f.opening(2, "alice", all[:3]...)})
}

func TestReservedAddresses(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	seen := map[netip.Addr]bool{}
	inside := netip.MustParseAddr("10.80.0.20")
	f.s.Parts[0].Inside = inside
	for i := 0; ; i++ {
		r := f.apply(Command{OpenSession: f.opening(i, "alice", f.slice(0, 0))})
		if r.Code == ErrExhausted.Code {
			break
		}
		if r.Err() != nil {
			t.Fatal(r.Err())
		}
		seen[f.s.Sessions.Get(session(i)).Leases[0]] = true
	}
	// .16 to .126 of the /25, without the inside address: 110.
	if len(seen) != 110 || seen[inside] || seen[PathTestAddress(testPool)] {
		t.Fatalf("%d leases", len(seen))
	}
	for a := range seen {
		if last := a.As4()[3]; last < 16 || last > 126 {
			t.Fatalf("lease %s", a)
		}
	}
	last := f.opening(9000, "alice", f.slice(0, 0))
	last.Part = testPartB
	f.must(Command{OpenSession: last})
	if got := f.s.Sessions.Get(session(9000)).Leases[0]; got != netip.MustParseAddr("10.80.0.129") {
		t.Fatalf("first lease of the second part: %s", got)
	}
}

// I13: a lease goes back to its client at once, to another only after the hold.
func TestLeaseIsStickyAndHeld(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	f.client("bob")
	for a := netip.MustParseAddr("10.80.0.17"); a.As4()[3] < 127; a = a.Next() {
		f.s.putLease(a, &Lease{Client: "other", Free: 1 << 40})
	}
	first := f.open(1, "alice").Leases[0]
	f.end(1)
	if got, ok := f.s.LastLease("alice", DeviceID{}); !ok || got != first {
		t.Fatalf("last lease %s", got)
	}
	if got := f.open(2, "alice").Leases[0]; got != first {
		t.Fatalf("alice came back to %s, had %s", got, first)
	}
	f.end(2)
	f.wait(159)
	f.refuse(ErrExhausted, Command{OpenSession: f.opening(3, "bob", f.slice(0, 0))})
	f.wait(1)
	if got := f.open(4, "bob").Leases[0]; got != first {
		t.Fatalf("bob got %s", got)
	}
}

// I13: whoever is given a revoked name does not get its addresses.
func TestRevokedClientLosesItsLease(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	old := f.open(1, "alice").Leases[0]
	f.must(Command{RevokeClient: &RevokeClient{Name: "alice"}})
	ses := f.s.Sessions.Get(session(1))
	if ses.State != SessionEnded || ses.Reason != ReasonRevoked || ses.Slices[0].State != SliceVoid {
		t.Fatalf("session %+v", ses)
	}
	f.refuse(ErrRevoked, Command{OpenSession: f.opening(2, "alice", f.slice(0, 0))})
	f.refuse(ErrRevoked, Command{PutClient: &PutClient{Client: Client{Name: "alice"}, Replace: true}})
	f.client("alice")
	if got := f.open(3, "alice").Leases[0]; got == old {
		t.Fatalf("the new alice got %s", got)
	}
}

func TestEndedSessionIsKeptADay(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	f.open(1, "alice")
	f.end(1)
	f.refuse(ErrEnded, Command{EndSession: &EndSession{Session: session(1)}})
	f.refuse(ErrEnded, Command{MarkSlice: &MarkSlice{Session: session(1), Epoch: 1, State: SliceUp}})
	f.wait(EndedKept - 1)
	if ses := f.s.Sessions.Get(session(1)); ses == nil || ses.Bytes != 7 || ses.Reason != "client" {
		t.Fatalf("session %+v", ses)
	}
	f.wait(1)
	if f.s.Sessions.Len() != 0 || f.s.Requests.Len() != 0 {
		t.Fatalf("%d sessions, %d requests after a day", f.s.Sessions.Len(), f.s.Requests.Len())
	}
}

// over marks a session as one that is over, without all that goes with an end.
func (f *fixture) over(n int) *Session {
	ses := *f.s.Sessions.Get(session(n))
	ses.State = SessionEnded
	f.s.putSession(&ses)
	return &ses
}

func TestSessionLimits(t *testing.T) { // I10
	f := newFixture(t)
	f.client("alice")
	for i := range f.s.Room().Sessions {
		id := session(10_000 + i)
		f.s.putSession(&Session{ID: id, State: SessionActive})
	}
	f.deny(ErrExhausted, Command{OpenSession: f.opening(1, "alice", f.slice(0, 0))})
	old := f.over(10_007)
	f.open(1, "alice")
	if f.s.Sessions.Get(old.ID) != nil || f.s.Sessions.Len() != f.s.Room().Sessions {
		t.Fatal("the ended session did not make room")
	}
	f.must(Command{EndSession: &EndSession{Session: session(1), Reason: strings.Repeat("ä", MaxReason)}})
	if got := f.s.Sessions.Get(session(1)).Reason; len(got) > MaxReason || !strings.HasPrefix(got, "ää") {
		t.Fatalf("reason of %d bytes", len(got))
	}
	for i := range f.s.Room().Leases {
		f.s.putLease(netip.AddrFrom4([4]byte{99, byte(i >> 16), byte(i >> 8), byte(i)}), &Lease{Free: 1 << 40})
	}
	f.client("bob")
	f.over(10_008)
	f.deny(ErrExhausted, Command{OpenSession: f.opening(2, "bob", f.slice(0, 0))})
	if f.s.Sessions.Get(session(10_008)) == nil {
		t.Fatal("a refused session pushed an ended one out")
	}
}

func TestResumeKey(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	f.open(1, "alice")
	f.open(2, "alice")
	resume := func(n, r int) Command {
		return Command{ResumeKey: &ResumeKey{Session: session(n), Request: request(r), Key: key(5), Hello: hash}}
	}
	f.must(resume(1, 50))
	f.must(resume(1, 50))
	if ses := f.s.Sessions.Get(session(1)); ses.Key != key(5) || f.s.Requests.Len() != 2 || f.s.Requests.Get(request(50)) != ses.ID {
		t.Fatalf("session %+v requests %v", ses, f.s.Requests)
	}
	f.refuse(ErrExists, resume(2, 50))
	f.refuse(ErrNotFound, resume(3, 51))
	f.refuse(ErrInvalid, Command{ResumeKey: &ResumeKey{Session: session(1), Key: key(5), Hello: hash}})
}

func TestClientLimits(t *testing.T) { // I10
	f := newFixture(t)
	put := func(c Client) Command { return Command{PutClient: &PutClient{Client: c}} }
	for i := range f.s.Room().Clients - 1 {
		name := fmt.Sprintf("c%d", i)
		f.s.Clients.Put(name, &Client{Name: name})
	}
	f.client("last")
	f.deny(ErrExhausted, put(Client{Name: "more"}))
	f.deny(ErrExists, put(Client{Name: "last"}))
	f.deny(ErrInvalid, put(Client{Name: "bad name"}))
	f.deny(ErrInvalid, put(Client{Name: "x", Prefixes: make([]netip.Prefix, MaxPrefixes+1)}))
	f.deny(ErrNotFound, Command{PutClient: &PutClient{Client: Client{Name: "x"}, Replace: true}})
	f.deny(ErrNotFound, Command{RevokeClient: &RevokeClient{Name: "x"}})
}

// TestSessionWithPeer: every slice of it is on the node that its client named,
// now and later.
func TestSessionWithPeer(t *testing.T) {
	f := newFixture(t)
	f.join(1)
	f.client("alice")
	c := f.opening(1, "alice", f.slice(0, 1))
	c.Session.Peer = node(1)
	f.must(Command{OpenSession: c})
	ses := f.s.Sessions.Get(session(1))
	if ses.Peer != node(1) || ses.EgressKind != EgressLocal {
		t.Fatalf("session %+v", ses)
	}
	next := func(agent int) Command {
		sl := f.slice(1, agent)
		sl.Epoch = 1
		return Command{GrantSlice: &GrantSlice{Session: ses.ID, Slice: sl}}
	}
	f.refuse(ErrInvalid, next(0))
	f.must(next(1))
}
