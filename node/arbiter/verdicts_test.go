package arbiter

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// verdicts is a session of a client that is connected. Its slice 0 is up at one agent, its
// slice 1 at another, to which it was moved a moment ago: so it stays there for a while when it
// is silent, unless one of its ends has its keys no more.
type verdicts struct {
	*linkScene
	c     *clientStream
	id    registry.SessionID
	moved protocol.SliceRef
}

func newVerdicts(t *testing.T) *verdicts {
	t.Helper()
	v := &verdicts{linkScene: newLinkScene(t, registry.HandOnSealed)}
	for i, n := range []*nodeStream{v.asker, v.peer} {
		v.commit(registry.Command{SetRoles: &registry.SetRoles{ID: n.node, Is: dataRoles}})
		n.hello.Boot, n.hello.Judges = identity.BootID{7, byte(i)}, true
		v.store.state.Nodes[n.node].Boot = n.hello.Boot
		v.a.step(session.NodeUp{Node: n.node, Boot: n.hello.Boot})
	}
	v.give(2)
	s := v.session(v.a, 1, v.asker.node)
	s.Slices[0].Boot = v.asker.hello.Boot
	s.Slices = append(s.Slices, registry.Slice{Number: 1, Epoch: 1, Suite: uint16(esp.AES256GCM), State: registry.SliceVoid})
	v.id = s.ID
	v.commit(registry.Command{PutClient: &registry.PutClient{Client: registry.Client{Name: s.Client}}})
	v.resume(1, protocol.SliceRef{Number: 0, Epoch: 1})
	v.isUp(100 * time.Millisecond) // it is granted to the other agent
	v.moved = protocol.SliceRef{Session: v.id, Number: 1, Epoch: 2}
	v.agentSays(protocol.Node{Ack: &protocol.SliceAck{Slice: v.moved, Ok: true}})
	v.says(protocol.Client{Up: &v.moved})
	up := v.isUp(100 * time.Millisecond)
	if is := v.live().Slices[1]; !up || is.Agent != v.peer.node || is.Epoch != 2 {
		t.Fatalf("not moved: %+v", is)
	}
	v.a.pushViews() // so that the arbiter's book has it
	return v
}

// live is the session as the registry has it.
func (v *verdicts) live() (s *registry.Session) {
	v.store.View(func(all *registry.State) { s = all.Sessions.Get(v.id) })
	return s
}

// resume has the client come back with the slices that it holds.
func (v *verdicts) resume(number byte, held ...protocol.SliceRef) {
	v.c = &clientStream{introduction: &introduction{}, key: identity.PublicKey{number}, request: registry.RequestID{number}, Stream: toClient(v.TB, MaxOutbox)}
	clientOpened{v.c, &protocol.Auth{Method: protocol.MethodResume, Session: v.id, Held: held}}.apply(v.a)
	v.decide(v.a)
	v.a.serve(v.c, v.id)
}

// says has the client, or the slice's agent, say something.
func (v *verdicts) says(m protocol.Client) { clientSaid{c: v.c, m: &m}.apply(v.a); v.decide(v.a) }

func (v *verdicts) agentSays(m protocol.Node) {
	nodeSaid{v.peer, &m}.apply(v.a)
	v.decide(v.a)
}

// reopen has the agent's stream open anew, the same process with what it holds.
func (v *verdicts) reopen(held ...protocol.SliceRef) {
	v.peer.hello.Held = held
	nodeOpened{v.peer}.apply(v.a)
	v.decide(v.a)
}

// isUp says whether the moved slice is, some time later.
func (v *verdicts) isUp(later time.Duration) bool {
	for until := v.now.Load() + int64(later); v.now.Load() < until; {
		v.now.Add(int64(100 * time.Millisecond))
		v.a.step(session.Load{Node: v.peer.node, Capacity: 1000})
		v.a.step(session.Load{Node: v.asker.node, Capacity: 1000})
		v.a.tick()
		v.decide(v.a)
	}
	return v.live().Slices[1].State == registry.SliceUp
}

// TestWhoSaysThatKeysAreGone: an agent and a client of which one has a slice's keys no more are
// believed at once. A client that hears nothing may hear it again by another way.
func TestWhoSaysThatKeysAreGone(t *testing.T) {
	for name, c := range map[string]struct {
		say  func(*verdicts)
		gone bool
	}{
		"its agent drops it":                       {func(v *verdicts) { v.agentSays(protocol.Node{Gone: &v.moved}) }, true},
		"its agent's next stream does not have it": {func(v *verdicts) { v.reopen() }, true},
		"its agent's next stream has it":           {func(v *verdicts) { v.reopen(v.moved) }, false},
		"its client comes back without it":         {func(v *verdicts) { v.resume(2, protocol.SliceRef{Number: 0, Epoch: 1}) }, true},
		"its client comes back with it":            {func(v *verdicts) { v.resume(2, protocol.SliceRef{Number: 0, Epoch: 1}, v.moved) }, false},
		"its client hears nothing":                 {func(v *verdicts) { v.says(protocol.Client{Silent: &v.moved}) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerdicts(t)
			if c.say(v); v.isUp(0) == c.gone {
				t.Errorf("up: %v", c.gone)
			}
		})
	}
}

// TestClientAloneTakesItsVerdictBack: that a slice is up is for its client to say after it heard
// nothing of it. An agent that takes packets and answers none says so too.
func TestClientAloneTakesItsVerdictBack(t *testing.T) {
	for name, c := range map[string]struct {
		say  func(*verdicts)
		back bool
	}{
		"nobody":    {func(*verdicts) {}, false},
		"its agent": {func(v *verdicts) { v.agentSays(protocol.Node{Up: &v.moved}) }, false},
		"client":    {func(v *verdicts) { v.says(protocol.Client{Up: &v.moved}) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVerdicts(t)
			v.says(protocol.Client{Silent: &v.moved})
			if c.say(v); v.isUp(session.StayFor+time.Second) != c.back {
				t.Errorf("up: %v", !c.back)
			}
		})
	}
}
