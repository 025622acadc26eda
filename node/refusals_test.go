package node

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

// TestLostRefusalsAreRefused: two of three voters revoke a user; one of them is put back to
// its disk from before and elects, with the third, an arbiter that never heard of it. When
// the other one comes back, whose log has it, the user is refused again by itself. Who is
// let in again after that stays so. It makes no difference whose terms are the higher ones.
func TestLostRefusalsAreRefused(t *testing.T) {
	for name, terms := range map[string]int{"of a low term": 0, "of a high term": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lostRefusals(t, terms)
		})
	}
}

// lostRefusals is that where the arbiter changed so many times before the loss.
func lostRefusals(t *testing.T, terms int) {
	w := threeVoters(t)
	holder, old, down := w.members[0], w.members[1], w.members[2]
	alice := registry.Client{Name: "alice", PasswordKey: holder.trust.Key.Public()}
	w.propose(registry.Command{PutClient: &registry.PutClient{Client: alice}})
	down.stop()
	image := t.TempDir()
	old = w.again(old, func(path string) { w.ok(os.CopyFS(image, os.DirFS(path))) })
	w.until("two voters have an arbiter", func() bool { return w.arbiter() != nil && len(w.heard(w.arbiter())) >= 2 })
	for range terms {
		w.until("the arbiter makes another one", func() bool {
			is := w.arbiter()
			return is != nil && is.store.Load().TransferLeadership(w.Context()) == nil
		})
	}
	w.propose(registry.Command{RevokeClient: &registry.RevokeClient{Name: "alice"}})
	w.until("both have it", func() bool { return w.revoked(holder, "alice") && w.revoked(old, "alice") })
	index := holder.store.Load().Stats().Last
	w.until("the holder was told that it is committed", func() bool { return holder.memory.furthest().Index >= index })
	holder.saveKnown()
	holder.stop()
	old = w.again(old, func(path string) {
		w.ok(os.RemoveAll(path))
		w.ok(os.CopyFS(path, os.DirFS(image)))
	})
	down = w.again(down, asItIs)
	w.until("they have an arbiter", func() bool { return w.arbiter() != nil })
	w.propose(registry.Command{PutPolicy: &registry.PutPolicy{}})
	for _, m := range []*member{old, down} {
		w.serveOperators(m)
	}
	holder = w.again(holder, asItIs)
	holder.loops.Go(func() { holder.keepRefusals(holder.ctx) })
	w.until("the holder keeps what it has", func() bool { return errors.Is(holder.store.Load().Disk(), consensus.ErrFork) })
	for _, m := range []*member{old, down} {
		w.until("alice is revoked at "+m.self.Name, func() bool { return w.revoked(m, "alice") })
	}
	kept, err := holder.store.Load().Kept()
	w.ok(err)
	var told datadir.Told
	w.until("it is noted", func() bool {
		told, err = holder.dir.Told(kept.Term, kept.Index)
		return err != nil || told.Index > 0
	})
	w.ok(err)
	w.propose(registry.Command{PutClient: &registry.PutClient{Client: alice}})
	w.ok(holder.tellRefusals(t.Context(), holder.store.Load()))
	if w.revoked(w.arbiter(), "alice") {
		t.Error("who was let in again is refused once more")
	}
	w.ok(os.WriteFile(holder.dir.Path("told.json"), []byte("{"), 0o600))
	w.ok(holder.tellRefusals(t.Context(), holder.store.Load()))
	if again, err := holder.dir.Told(kept.Term, kept.Index); again != told || err != nil || !w.revoked(w.arbiter(), "alice") {
		t.Errorf("a damaged note kept it from telling: %+v, %v", again, err)
	}
	if says := diskWords("/d", holder.store.Load().Disk()); !strings.Contains(says, "the arbiter refuses as well") {
		t.Errorf("status says %q", says)
	}
}

// serveOperators lets other voters ask a member.
func (w *world) serveOperators(m *member) {
	w.Helper()
	stop, err := m.openOperator()
	w.ok(err)
	w.Cleanup(stop)
}

// revoked says whether a member's own registry refuses a user.
func (w *world) revoked(m *member, name string) (is bool) {
	w.Helper()
	w.ok(m.view(func(s *registry.State) { c := s.Clients.Get(name); is = c != nil && c.Revoked }))
	return is
}

// TestRefusalsOf: all that a registry denies, and nobody that it lets in.
func TestRefusalsOf(t *testing.T) {
	s := registry.New()
	s.Nodes = map[identity.NodeID]*registry.Node{{1}: {}, {2}: {Removed: true}}
	s.Authorities = map[string]*registry.Authority{"old": {}, "gone": {Revoked: true}}
	for name, revoked := range map[string]bool{"alice": true, "bob": false} {
		s.Clients.Put(name, &registry.Client{Name: name, Revoked: revoked})
	}
	for id, revoked := range map[byte]bool{7: true, 8: false} {
		s.Certificates.Put(registry.CertificateID{id}, &registry.Certificate{ID: registry.CertificateID{id}, Revoked: revoked})
	}
	all := refusalsOf(s)
	if !slices.Equal(all.Nodes, []identity.NodeID{{2}}) || !slices.Equal(all.Authorities, []string{"gone"}) ||
		!slices.Equal(all.Clients, []string{"alice"}) || len(all.Certificates) != 1 || all.Certificates[0].ID != (registry.CertificateID{7}) {
		t.Errorf("%+v", all)
	}
}

// TestLackingRefusals: of what another registry denies, only what this one lets in, and never
// the node itself.
func TestLackingRefusals(t *testing.T) {
	present := registry.New()
	present.Nodes = map[identity.NodeID]*registry.Node{{1}: {}, {2}: {Removed: true}, {4}: {}}
	present.Authorities = map[string]*registry.Authority{"old": {}, "gone": {Revoked: true}}
	all := lackingRefusals(present, control.Refusals{
		Nodes: []identity.NodeID{{1}, {2}, {3}, {4}}, Authorities: []string{"old", "gone", "strange"}, Clients: []string{"nobody"},
		Certificates: []registry.Certificate{{ID: registry.CertificateID{7}}},
	}, identity.NodeID{4})
	var nodes, authorities, certificates int
	for _, c := range all {
		switch {
		case c.RemoveNode != nil && c.RemoveNode.ID == (identity.NodeID{1}):
			nodes++
		case c.RevokeAuthority != nil && c.RevokeAuthority.Name == "old":
			authorities++
		case c.PutCertificate != nil && c.PutCertificate.Certificate.Revoked:
			certificates++
		default:
			t.Errorf("%+v", c)
		}
	}
	if got := []int{nodes, authorities, certificates}; !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("nodes, authorities, certificates: %v", got)
	}
}

// TestRefusalWithoutRoomStopsNoOther: a list of certificates that is full keeps no node, nor
// a certificate that is listed already, from being refused.
func TestRefusalWithoutRoomStopsNoOther(t *testing.T) {
	present := registry.New()
	present.Nodes = map[identity.NodeID]*registry.Node{{1}: {}}
	present.Certificates.Put(registry.CertificateID{8}, &registry.Certificate{ID: registry.CertificateID{8}})
	strange, listed := registry.Certificate{ID: registry.CertificateID{7}}, registry.Certificate{ID: registry.CertificateID{8}}
	all := lackingRefusals(present, control.Refusals{Nodes: []identity.NodeID{{1}}, Certificates: []registry.Certificate{strange, listed}}, identity.NodeID{})
	if len(all) != 3 || all[0].RemoveNode == nil || all[1].PutCertificate.Certificate.ID != listed.ID || all[2].PutCertificate.Certificate.ID != strange.ID {
		t.Errorf("in this order: %+v", all)
	}
	for code, pieces := range map[int]int{control.CodeFailed: 3, control.CodeUnreachable: 1, control.CodeDegraded: 1} {
		var told []control.Refusals
		left, err := eachPiece(control.Refusals{Clients: []string{"alice"}, Nodes: []identity.NodeID{{1}}, Certificates: []registry.Certificate{strange}},
			func(some control.Refusals) error {
				told = append(told, some)
				return control.Errorf(code, "", "no")
			})
		if err == nil || len(left) != 3 || len(told) != pieces || pieces == 3 && len(told[1].Nodes)*len(told[2].Certificates) != 1 {
			t.Errorf("with code %d: told %+v, %v", code, told, err)
		}
	}
}

// refusingLog is a data directory, and the registry of a log that refuses a client and a
// certificate.
func refusingLog(t *testing.T) (*datadir.Dir, *registry.State) {
	t.Helper()
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	s := registry.New()
	s.Index = 7
	s.Clients.Put("alice", &registry.Client{Name: "alice", Revoked: true})
	s.Certificates.Put(registry.CertificateID{7}, &registry.Certificate{ID: registry.CertificateID{7}, Revoked: true})
	return dir, s
}

// TestNothingElseWaitsForRoom: what the arbiter did not take beside certificates is told again.
func TestNothingElseWaitsForRoom(t *testing.T) {
	dir, s := refusingLog(t)
	n, clients := &Node{dir: dir, config: RunConfig{Log: slog.New(slog.DiscardHandler)}}, 0
	for try := range 2 {
		err := n.tellOnce(s, func(some control.Refusals) error {
			clients += len(some.Clients)
			return control.Errorf(control.CodeFailed, "", "no")
		})
		if err == nil || errors.Is(err, errNoRoom) || clients != try+1 {
			t.Errorf("try %d: %d clients were told, then %v", try, clients, err)
		}
	}
}

// TestOnlyCertificatesWaitForRoom: where the arbiter's list of them is full all else is told
// once, in whatever process, so who is let in again after that stays so. They are tried again,
// more seldom, and once there is room nothing is told any more, until the log holds more.
func TestOnlyCertificatesWaitForRoom(t *testing.T) {
	dir, s := refusingLog(t)
	room := error(control.Errorf(control.CodeFailed, "", "no room"))
	tells := func() (clients, certificates int, err error) {
		n := &Node{dir: dir, config: RunConfig{Log: slog.New(slog.DiscardHandler)}} // another process each time
		err = n.tellOnce(s, func(some control.Refusals) error {
			clients, certificates = clients+len(some.Clients), certificates+len(some.Certificates)
			if len(some.Certificates) > 0 {
				return room
			}
			return nil
		})
		return clients, certificates, err
	}
	for i, want := range [][2]int{{1, 1}, {0, 1}, {0, 1}} {
		if clients, certificates, err := tells(); clients != want[0] || certificates != want[1] || refuseAgain(err) != RoomEvery {
			t.Errorf("try %d: %d clients and %d certificates are told, again after %v", i, clients, certificates, refuseAgain(err))
		}
	}
	room = control.Errorf(control.CodeUnreachable, "", "no arbiter")
	if clients, certificates, err := tells(); clients+certificates != 1 || refuseAgain(err) != RefuseEvery {
		t.Errorf("without an arbiter %d are told, again after %v", clients+certificates, refuseAgain(err))
	}
	room = nil
	for i, want := range []int{1, 0} {
		if clients, certificates, err := tells(); clients+certificates != want || err != nil {
			t.Errorf("with room, try %d: %d are told (%v)", i, clients+certificates, err)
		}
	}
	s.Index++
	if clients, certificates, err := tells(); clients != 1 || certificates != 1 || err != nil {
		t.Errorf("of a longer log %d, %d are told (%v)", clients, certificates, err)
	}
}

// TestTwoLogsAreToldOnceEach: a log from before a recovery whose certificates wait for room, and
// the present one that keeps something. Telling of one made the other be told anew, all of it,
// so who was let in again was refused once more, every minute.
func TestTwoLogsAreToldOnceEach(t *testing.T) {
	dir, former := refusingLog(t)
	_, present := refusingLog(t)
	present.Term, present.Index = 9, 1_000_007
	for try := range 3 {
		for name, s := range map[string]*registry.State{"former": former, "present": present} {
			n, clients := &Node{dir: dir, config: RunConfig{Log: slog.New(slog.DiscardHandler)}}, 0
			err := n.tellOnce(s, func(some control.Refusals) error {
				clients += len(some.Clients)
				if len(some.Certificates) > 0 {
					return control.Errorf(control.CodeFailed, "", "no room")
				}
				return nil
			})
			if once := try == 0; !errors.Is(err, errNoRoom) || (clients == 1) != once {
				t.Errorf("try %d: of the %s log %d clients are told, then %v", try, name, clients, err)
			}
		}
	}
}

// TestNobodyRefusedIsNoWarning: a voter that was cut off while the mesh was recovered, and whose
// log refuses nobody, warned of that with four zeros.
func TestNobodyRefusedIsNoWarning(t *testing.T) {
	dir, err := datadir.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	var said strings.Builder
	n, s := &Node{dir: dir, config: RunConfig{Log: slog.New(slog.NewTextHandler(&said, nil))}}, registry.New()
	tell := func(control.Refusals) error { return nil }
	s.Index = 7
	if err := n.tellOnce(s, tell); err != nil || said.Len() > 0 {
		t.Errorf("%v, says %q", err, said.String())
	}
	if was, err := dir.Told(0, 7); err != nil || was.Index != 7 {
		t.Errorf("noted is %+v (%v)", was, err)
	}
	s.Index++
	s.Clients.Put("alice", &registry.Client{Name: "alice", Revoked: true})
	if err := n.tellOnce(s, tell); err != nil || !strings.Contains(said.String(), "clients=1") {
		t.Errorf("%v, of one it says %q", err, said.String())
	}
}

// TestRefusalsComeInPieces: a request has a bound, and none is left out.
func TestRefusalsComeInPieces(t *testing.T) {
	all := control.Refusals{Clients: make([]string, 2*MaxRefusals+1), Nodes: make([]identity.NodeID, 1)}
	some := pieces(all)
	clients, nodes := 0, 0
	for _, p := range some {
		clients, nodes = clients+len(p.Clients), nodes+len(p.Nodes)
	}
	if len(some) != 4 || clients != len(all.Clients) || nodes != 1 {
		t.Errorf("%d pieces with %d clients, %d nodes", len(some), clients, nodes)
	}
	if _, err := (&Node{}).refuse(nil, control.Refusals{Clients: make([]string, MaxRefusals+1)}); control.CodeOf(err) != control.CodeUsage {
		t.Errorf("more than that: %v", err)
	}
}

// TestMembersMayOnlyLook: what changes the registry is for voters and the local socket; any
// other member that may refuse could shut out everybody.
func TestMembersMayOnlyLook(t *testing.T) {
	var looks []string
	for name, operation := range (&Node{}).arbiterOperations() {
		if operation.Look {
			looks = append(looks, name)
		}
	}
	slices.Sort(looks)
	want := []string{
		control.OpMembers, control.OpSessions, control.OpClientList, control.OpClientProfile, control.OpCAShow, control.OpPolicyShow, control.OpRaftPeers,
	}
	if slices.Sort(want); !slices.Equal(looks, want) {
		t.Errorf("any member may ask for %v, want %v", looks, want)
	}
}

// TestRefusalsOfAMeshThatWasGivenUp: a user was revoked by two voters that a third one did
// not hear. The mesh is recovered at that one; when the others are back they follow it, and
// the user is refused there, too.
func TestRefusalsOfAMeshThatWasGivenUp(t *testing.T) {
	t.Parallel()
	w := threeVoters(t)
	one, other, left := w.members[0], w.members[1], w.members[2]
	w.propose(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "alice", PasswordKey: one.trust.Key.Public()}}})
	w.until("all know alice", func() bool { return w.knows(one, "alice") && w.knows(other, "alice") && w.knows(left, "alice") })
	left.stop()
	w.until("two voters have an arbiter", func() bool { return w.arbiter() != nil && len(w.heard(w.arbiter())) >= 2 })
	w.propose(registry.Command{RevokeClient: &registry.RevokeClient{Name: "alice"}})
	w.until("both have it", func() bool { return w.revoked(one, "alice") && w.revoked(other, "alice") })
	one.stop()
	other.stop()
	left = w.again(left, func(path string) {
		_, err := Recover(RecoverConfig{DataDir: path, Log: w.log()})
		w.ok(err)
	})
	w.leads(left)
	w.serveOperators(left)
	if w.revoked(left, "alice") {
		t.Fatal("it knew of that")
	}
	one = w.again(one, asItIs)
	one.loops.Go(func() { one.keepRefusals(one.ctx) })
	w.until("alice is refused by the recovered mesh", func() bool { return w.revoked(left, "alice") && w.revoked(one, "alice") })
	w.until("it is told once", func() bool { return one.store.Load().Former() == nil })
	if left.arbiter.Load() == nil {
		t.Error("the recovered node leads no more")
	}
}

// knows says whether a member's own registry has a user.
func (w *world) knows(m *member, name string) (has bool) {
	w.Helper()
	w.ok(m.view(func(s *registry.State) { has = s.Clients.Get(name) != nil }))
	return has
}

// TestStatusOfALogThatWasGivenUp: nobody is told to recover beside the recovered mesh, but where
// it was recovered here, and the disk has spoilt the snapshot of that: an only voter has no
// other way.
func TestStatusOfALogThatWasGivenUp(t *testing.T) {
	w := newWorld(t, 1)
	m := w.members[0]
	m.store.Load().Learn(consensus.Known{Incarnation: 2})
	if says := m.noArbiter(false); !strings.Contains(says, "the mesh was recovered on another host") || strings.Contains(says, "operator recover") {
		t.Errorf("status says %q", says)
	}
	w.ok(os.MkdirAll(filepath.Join(m.dir.Path(datadir.RaftDir), "spoilt"), 0o700))
	if says := m.noArbiter(false); strings.Contains(says, "on another host, without") || !strings.Contains(says, "operator recover here") {
		t.Errorf("of a spoilt snapshot it says %q", says)
	}
}
