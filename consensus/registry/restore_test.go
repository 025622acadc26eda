package registry

import "testing"

// TestSucceed: what a snapshot does not know of, it does not give away again
// (I13), and who was refused since is refused still; no epoch is granted twice.
func TestSucceed(t *testing.T) {
	f := newFixture(t)
	f.join(2)
	f.join(3)
	f.client("ann")
	f.client("bob")
	f.client("eve")
	f.open(1, "ann")
	f.open(2, "bob")
	raw, err := EncodeSnapshot(f.s)
	if err != nil {
		t.Fatal(err)
	}
	f.join(4)
	later := f.open(3, "ann").Leases[0]
	index := f.s.Nodes[node(4)].Index
	f.must(Command{RevokeClient: &RevokeClient{Name: "eve"}})
	f.must(Command{RemoveNode: &RemoveNode{ID: node(3)}})
	f.end(2)
	f.wait(100)
	sl := f.slice(0, 4)
	sl.Epoch = 2
	f.must(Command{GrantSlice: &GrantSlice{Session: session(1), Slice: sl}})

	s, err := DecodeSnapshot(raw)
	if err != nil {
		t.Fatal(err)
	}
	s.Succeed(f.s)
	if s.Tick != f.s.Tick {
		t.Errorf("the clock went back to %d", s.Tick)
	}
	if !s.Clients.Get("eve").Revoked || !s.Nodes[node(3)].Removed {
		t.Error("who was refused is let in again")
	}
	if s.Sessions.Get(session(2)).State != SessionEnded {
		t.Error("a session that was ended goes on")
	}
	if lease := s.Leases.Get(later); lease == nil || lease.Free <= s.Tick {
		t.Errorf("lease %s is free: %+v", later, lease)
	}
	if hold := s.Indexes[index]; hold.Node != node(4) || hold.Free <= s.Tick {
		t.Errorf("index %d is free: %+v", index, hold)
	}
	ses := s.Sessions.Get(session(1))
	if sl := ses.Slices[0]; ses.State != SessionActive || sl.State != SliceVoid || s.NextEpoch(sl.Epoch) != 3 {
		t.Errorf("session %s, slice %+v, epoch %d next", ses.State, sl, s.NextEpoch(sl.Epoch))
	}
	if raw, err = EncodeSnapshot(s); err == nil {
		_, err = DecodeSnapshot(raw)
	}
	if err != nil {
		t.Errorf("the state is not whole: %v", err)
	}
}

// TestSucceedNeverGoesBack: what only rises is as far as either of both had it, and slices that
// were on their way out are not taken along.
func TestSucceedNeverGoesBack(t *testing.T) {
	f := newFixture(t)
	f.join(1)
	f.client("alice")
	f.must(Command{OpenSession: f.opening(1, "alice", f.slice(0, 0))})
	for name, further := range map[string]bool{"the present is further": true, "the snapshot is": false} {
		restored, present := f.s.Clone(), f.s.Clone()
		ahead := restored
		if further {
			ahead = present
		}
		ahead.Tick, ahead.HeadlessFloor, ahead.EpochFloor, ahead.Cluster.Incarnation, ahead.Enlarged = 1_000, 1_000_000, 9, 7, true
		ses := restored.Sessions.Get(session(1)).copy()
		ses.Retiring = append(ses.Retiring, ses.Slices[0])
		restored.putSession(ses)
		restored.Succeed(present)
		if restored.Tick != 1_000 || restored.HeadlessFloor != 1_000_000 || restored.EpochFloor != 9 || restored.Cluster.Incarnation != 7 || !restored.Enlarged {
			t.Errorf("%s: tick %d, floors %d and %d, incarnation %d, enlarged %v", name, restored.Tick, restored.HeadlessFloor, restored.EpochFloor, restored.Cluster.Incarnation, restored.Enlarged)
		}
		after := restored.Sessions.Get(session(1))
		if len(after.Retiring) != 0 || after.Slices[0].State != SliceVoid || restored.NextEpoch(after.Slices[0].Epoch) != 10 {
			t.Errorf("%s: %+v", name, after)
		}
	}
}
