package arbiter

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// crasher is a mesh whose client may have one session, and is another device each time.
type crasher struct {
	*linkScene
	starts byte
	c      *clientStream
}

func newCrasher(t *testing.T) *crasher {
	t.Helper()
	s := &crasher{linkScene: newLinkScene(t, registry.HandOnSealed)}
	s.commit(registry.Command{SetRoles: &registry.SetRoles{ID: s.peer.node, Is: dataRoles}})
	s.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: "ann"}}})
	s.commit(registry.Command{PutPolicy: &registry.PutPolicy{Policy: registry.Policy{Sessions: 1}}})
	s.peer.hello.Boot = identity.BootID{7}
	s.a.step(session.NodeUp{Node: s.peer.node, Boot: s.peer.hello.Boot})
	return s
}

// start logs in as a new device and says why it is refused; empty: it is not.
func (s *crasher) start() *protocol.Refused {
	s.Helper()
	s.starts++
	for n := range uint32(3) { // what is planned takes one, committed or not
		s.give(10*uint32(s.starts) + n)
	}
	s.c = &clientStream{request: registry.RequestID{s.starts}, Stream: toClient(s.TB, 8)}
	s.a.clients[s.c.request] = s.c
	s.a.step(session.Open{
		Request: s.c.request, Client: "ann", Key: identity.PublicKey{s.starts}, Identity: make([]byte, 32), Hello: make([]byte, 32),
		Suite: uint16(esp.AES256GCM), Mode: registry.ModeBurst, Entered: s.peer.node, Device: registry.DeviceID{s.starts}, Track: true,
	})
	s.decide(s.a)
	if s.c.Waiting() > 0 {
		return s.c.Take().Refused
	}
	return nil
}

// usage is the agent's word on the one session there is.
func (s *crasher) usage(quiet uint64) {
	s.Helper()
	var live *registry.Session
	s.store.View(func(r *registry.State) { live = r.ActiveSessions()[0] })
	report := &protocol.Usage{}
	for _, sl := range live.Slices {
		report.Slices = append(report.Slices, protocol.SliceUsage{
			Slice: protocol.SliceRef{Session: live.ID, Number: sl.Number, Epoch: sl.Epoch}, Quiet: quiet})
		quiet += 3600 // the slice heard last counts
	}
	nodeSaid{s.peer, &protocol.Node{Usage: report}}.apply(s.a)
}

// TestSilentSessionGivesWay: of a client that has as many sessions as it may the silent
// one ends for a new login, by what its agents say; until then the login is told for
// how long it is refused. Who is heard without a connection lives, and of an agent of a
// build that does not tell everybody is heard.
func TestSilentSessionGivesWay(t *testing.T) {
	for quiet, wait := range map[uint64]int64{0: 60, 1: 59, 13: 47, 59: 1, 60: 0, 1 << 63: 0} {
		s := newCrasher(t)
		if no := s.start(); no != nil {
			t.Fatalf("the first: %+v", no)
		}
		clientClosed{s.c}.apply(s.a)
		s.now.Add(int64(session.SilentAfter))
		s.usage(quiet)
		switch no := s.start(); {
		case wait == 0 && no != nil:
			t.Errorf("heard %d s ago: %+v", quiet, no)
		case wait > 0 && (no == nil || no.Code != protocol.RefusedPolicy || no.Wait != wait ||
			!strings.Contains(no.Reason, "gives way in") || !strings.Contains(no.Next, fmt.Sprintf("sleep %d,", wait))):
			t.Errorf("heard %d s ago: %+v, want to wait for %d s", quiet, no, wait)
		}
	}
}

// TestOnlyHoldersHear: an agent that has no slice of a session keeps it from giving way by
// no lie, nor says what it moved.
func TestOnlyHoldersHear(t *testing.T) {
	s := newCrasher(t)
	if no := s.start(); no != nil {
		t.Fatalf("the first: %+v", no)
	}
	clientClosed{s.c}.apply(s.a)
	holder, liar := s.peer, s.member(s.a, "liar", dataRoles)
	s.now.Add(int64(session.SilentAfter))
	s.usage(uint64(session.SilentAfter / time.Second))
	s.peer = liar
	s.usage(1)
	if s.peer = holder; len(liar.usage) != 0 {
		t.Error("its word is kept")
	}
	if no := s.start(); no != nil {
		t.Errorf("it does not give way: %+v", no)
	}
}

// TestLivingSessionsDoNotGiveWay, and nobody is told to wait for them.
func TestLivingSessionsDoNotGiveWay(t *testing.T) {
	s := newCrasher(t)
	s.start()
	s.now.Add(int64(time.Hour))
	if no := s.start(); no == nil || no.Wait != 0 || strings.Contains(no.Next, "sleep") || !strings.Contains(no.Next, "sessions kick") {
		t.Errorf("%+v", no)
	}
}
