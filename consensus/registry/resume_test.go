package registry

import "testing"

// TestResumeWithSlices: the key and every slice's next epoch, or nothing of it.
func TestResumeWithSlices(t *testing.T) {
	f := newFixture(t)
	f.join(1)
	f.join(2)
	f.client("alice")
	f.must(Command{OpenSession: f.opening(1, "alice", f.slice(0, 0), f.slice(1, 1))})
	next := func(number uint8, agent int, epoch uint32) Slice {
		sl := f.slice(number, agent)
		sl.Epoch = epoch
		return sl
	}
	resume := func(r int, all ...Slice) Command {
		return Command{ResumeKey: &ResumeKey{Session: session(1), Request: request(r), Key: key(5), Hello: hash, Slices: all}}
	}
	good := next(0, 1, 2)
	twice, boots := next(1, 1, 2), next(1, 1, 2)
	twice.SPI, boots.Boot = good.SPI, boot(2)
	spent := next(1, 0, 2)
	spent.SPI = f.s.Sessions.Get(session(1)).Slices[0].SPI
	for _, c := range []struct {
		want *Error
		all  []Slice
	}{
		{ErrStale, []Slice{good, next(1, 0, 1)}},
		{ErrStale, []Slice{good, next(1, 0, 3)}},
		{ErrStale, []Slice{good, next(2, 0, 1)}},
		{ErrPrekey, []Slice{good, next(0, 0, 2)}},
		{ErrPrekey, []Slice{good, twice}},
		{ErrPrekey, []Slice{good, boots}},
		{ErrPrekey, []Slice{good, spent}},
	} {
		f.refuse(c.want, resume(50, c.all...))
	}
	f.must(resume(51, good, next(1, 2, 2)))
	ses := f.s.Sessions.Get(session(1))
	if ses.Key != key(5) || ses.Request != request(51) || len(ses.Slices) != 2 {
		t.Fatalf("%+v", ses)
	}
	for i, sl := range ses.Slices {
		if sl.Epoch != 2 || sl.State != SliceGranted || sl.Agent != node(i+1) || sl.Index != f.s.Index || sl.Term != f.s.Term {
			t.Errorf("%+v", sl)
		}
	}
	f.refuse(ErrPrekey, resume(52, Slice{Number: 0, Suite: 1, Agent: node(1), Boot: boot(1), Weight: 1, SPI: good.SPI, Epoch: 3}))
}

// TestResumeWithSlicesIsHeld: who is granted a slice of a session that is tracked has to
// acknowledge its end (I13), and slices of a boot that a grant supersedes are void.
func TestResumeWithSlicesIsHeld(t *testing.T) {
	f := newFixture(t)
	f.join(1)
	f.client("alice")
	f.must(Command{OpenSession: tracked(f.opening(1, "alice", f.slice(0, 0), f.slice(1, 0)), 1)})
	sl := f.slice(1, 0)
	sl.Epoch, sl.Boot = 2, boot(7)
	f.must(Command{ResumeKey: &ResumeKey{Session: session(1), Request: request(5), Key: key(5), Hello: hash, Slices: []Slice{sl}}})
	ses := f.s.Sessions.Get(session(1))
	if len(ses.Holding.Holders) != 1 || ses.Holding.Holders[0].Boot != boot(7) || ses.Slices[0].State != SliceVoid || ses.Slices[1].State != SliceGranted {
		t.Errorf("%+v", ses)
	}
}

// TestResumptionVersions: a replica that would forget the grants is sent none.
func TestResumptionVersions(t *testing.T) {
	for want, c := range map[byte]ResumeKey{1: {Hello: hash}, 6: {Hello: hash, Slices: []Slice{{SPI: 1}}}} {
		raw, err := EncodeCommand(Command{ID: CommandID{1}, ResumeKey: &c})
		if err != nil || raw[len(commandMagic)] != want {
			t.Errorf("%+v in version %d, %v; want %d", c, raw[len(commandMagic)], err, want)
		}
	}
}
