package registry

import "testing"

// TestPolicyOfModes: what may be asked for, and a default that is among it.
func TestPolicyOfModes(t *testing.T) {
	f := newFixture(t)
	put := func(mode Mode, allowed ...Mode) Command {
		return Command{PutPolicy: &PutPolicy{Policy: Policy{Headless: 100, Mode: mode, Modes: allowed}}}
	}
	f.refuse(ErrInvalid, put(ModeBurst, ModePin))
	f.refuse(ErrInvalid, put("", ModePin)) // the default is auto
	f.refuse(ErrInvalid, put(ModePin, ModePin, "fast"))
	f.must(put(ModePin, ModePin, ModePacket))
	f.client("alice")
	if ses := f.open(1, "alice"); ses.Mode != ModePin || ses.EqualShares() {
		t.Errorf("a session without a wish is %s, equal %v", ses.Mode, ses.EqualShares())
	}
	c := f.opening(2, "alice", f.slice(0, 0))
	c.Session.Mode, c.Session.SprayUDP = ModePacket, true
	f.must(Command{OpenSession: c})
	if ses := f.s.Sessions.Get(session(2)); ses.Mode != ModePacket || !ses.EqualShares() || !ses.SprayUDP {
		t.Errorf("%+v", ses)
	}
	c = f.opening(3, "alice", f.slice(0, 0))
	c.Session.Mode = ModeBurst
	f.refuse(ErrPolicy, Command{OpenSession: c})
}

// TestVersionsOfWhatIsNew: a replica of an older build must not read what it
// would take for something else.
func TestVersionsOfWhatIsNew(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	plain := Command{OpenSession: f.opening(1, "alice", f.slice(0, 0))}
	f.must(plain)
	asked := func(shares Shares, udp bool) Command {
		c := f.opening(2, "alice", f.slice(0, 0))
		c.Session.Shares, c.Session.SprayUDP = shares, udp
		return Command{OpenSession: c}
	}
	beside := f.opening(2, "alice", f.slice(0, 0))
	beside.Session.Peer = node(0)
	modes := Policy{Headless: 7, Modes: []Mode{ModeAuto}}
	for name, c := range map[string]struct {
		command Command
		want    byte
	}{
		"no wish":  {plain, 1},
		"shares":   {asked(SharesEqual, false), 3},
		"UDP":      {asked("", true), 3},
		"a peer":   {Command{OpenSession: beside}, 3},
		"weights":  {Command{WeighSlices: &WeighSlices{}}, 3},
		"modes":    {Command{PutPolicy: &PutPolicy{Policy: modes}}, 3},
		"direct":   {Command{PutPolicy: &PutPolicy{Policy: Policy{Headless: 7, Direct: true}}}, 3},
		"founding": {Command{Found: &Found{Policy: modes}}, 3},
	} {
		if got := c.command.version(); got != c.want {
			t.Errorf("%s: command of version %d, want %d", name, got, c.want)
		}
	}
	if got := f.s.version(); got >= 3 {
		t.Errorf("snapshot of version %d", got)
	}
	f.must(asked(SharesEqual, false))
	if got := f.s.version(); got != 3 {
		t.Errorf("snapshot with shares is of version %d", got)
	}
}
