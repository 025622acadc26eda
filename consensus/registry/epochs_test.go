package registry

import "testing"

// TestEpochsOfARecoveredMesh: what is granted after it comes after all that was given up, of
// every slice of a session and by every command (I3).
func TestEpochsOfARecoveredMesh(t *testing.T) {
	const floor = 1000
	f := newFixture(t)
	f.join(1)
	f.client("alice")
	f.must(Command{OpenSession: f.opening(1, "alice", f.slice(0, 0), f.slice(1, 1))})
	at := func(number uint8, epoch uint32) Slice {
		sl := f.slice(number, 1)
		sl.Epoch = epoch
		return sl
	}
	grant := func(sl Slice) Command { return Command{GrantSlice: &GrantSlice{Session: session(1), Slice: sl}} }
	resume := func(sl Slice) Command {
		return Command{ResumeKey: &ResumeKey{Session: session(1), Request: request(7), Key: key(5), Hello: hash, Slices: []Slice{sl}}}
	}
	before := f.s.Sessions.Get(session(1)).Slices
	f.must(Command{Reincarnate: &Reincarnate{Incarnation: 2, Epochs: floor}})
	for i, sl := range f.s.Sessions.Get(session(1)).Slices {
		if sl != before[i] {
			t.Errorf("%+v is not as it was: %+v", sl, before[i])
		}
	}
	if newest := f.s.NewestEpoch(); newest != floor {
		t.Errorf("the newest epoch could be %d", newest)
	}
	f.s = roundTrip(t, f.s)
	for _, epoch := range []uint32{2, floor, floor + 2} {
		f.refuse(ErrStale, grant(at(0, epoch)))
		f.refuse(ErrStale, resume(at(0, epoch)))
		f.refuse(ErrStale, grant(at(2, epoch)))
	}
	f.must(grant(at(0, floor+1)))
	f.must(grant(at(0, floor+2)))
	f.must(resume(at(1, floor+1)))
	f.must(grant(at(2, floor+1))) // one that this log knows nothing of
	if newest := f.s.NewestEpoch(); newest != floor+2 {
		t.Errorf("the newest epoch is %d", newest)
	}
	f.must(Command{Reincarnate: &Reincarnate{Incarnation: 3, Epochs: floor - 1}})
	if next := f.s.NextEpoch(1); next != floor+1 {
		t.Errorf("epoch %d after a recovery that says a lower one", next)
	}
}

// TestFloorOfEpochsSaysSo: an older build, which would refuse what is granted above the floor, does
// not read the command that raises it nor a snapshot of the state after it. What older builds
// made of theirs stays as it was.
func TestFloorOfEpochsSaysSo(t *testing.T) {
	f := newFixture(t)
	for floor, versions := range map[uint32][2]byte{0: {1, f.s.version()}, 9: {7, epochVersion}} {
		c := Command{ID: CommandID{1}, Reincarnate: &Reincarnate{Incarnation: 2, Epochs: floor}}
		raw, err := EncodeCommand(c)
		if err != nil || raw[4] != versions[0] {
			t.Errorf("floor %d: a command of version %d, %v", floor, raw[4], err)
		}
		s := f.s.Clone()
		if err := Apply(s, 99, 1, c).Err(); err != nil {
			t.Fatal(err)
		}
		if raw, err = EncodeSnapshot(s); err != nil || raw[4] != versions[1] {
			t.Errorf("floor %d: a snapshot of version %d, %v", floor, raw[4], err)
		}
		if s.Enlarged = true; s.version() < streamVersion {
			t.Errorf("floor %d: an enlarged one of version %d", floor, s.version())
		}
		roundTrip(t, s)
	}
}
