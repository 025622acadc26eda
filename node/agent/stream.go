package agent

import (
	"context"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// streamState is the one stream the loop obeys.
type streamState struct {
	stream  Stream
	arbiter identity.PublicKey
	outbox  chan *protocol.Node
	cancel  context.CancelFunc
	fenced  bool // the arbiter named its fence and it was not below ours
}

// say queues a message; a full outbox means a dead stream, so it is closed.
func (s *streamState) say(m *protocol.Node) {
	select {
	case s.outbox <- m:
	default:
		s.cancel()
	}
}

// keepStream dials, serves and redials until ctx ends.
func (a *Agent) keepStream(ctx context.Context) {
	wait := RedialMin
	for ctx.Err() == nil {
		stream, err := a.config.Dial(ctx)
		if err == nil {
			wait = RedialMin
			a.serveStream(ctx, stream)
		} else {
			a.config.Log.Debug("no arbiter reached", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(wait*2, RedialMax)
	}
}

// serveStream reads one stream until it ends; a second goroutine writes.
func (a *Agent) serveStream(ctx context.Context, stream Stream) {
	ctx, cancel := context.WithCancel(ctx)
	s := &streamState{stream: stream, arbiter: stream.Arbiter(),
		outbox: make(chan *protocol.Node, MaxOutbox), cancel: cancel}
	written := make(chan struct{})
	go func() {
		defer close(written)
		defer stream.Close() // wakes the reader too
		writeOutbox(ctx, s)
	}()
	a.must(ctx, streamOpened{s})
	for {
		m, err := stream.Read()
		if err != nil {
			a.config.Log.Debug("arbiter stream ended", "error", err)
			break
		}
		a.must(ctx, received{s, m})
	}
	cancel()
	<-written
	a.must(context.WithoutCancel(ctx), streamLost{s})
}

func writeOutbox(ctx context.Context, s *streamState) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.outbox:
			if s.stream.Write(m) != nil {
				return
			}
		}
	}
}

type streamOpened struct{ s *streamState }

// apply makes the newest stream the only one and introduces this node.
func (e streamOpened) apply(a *Agent) {
	if a.stream != nil {
		a.stream.cancel()
	}
	a.stream = e.s
	a.forgetEnded()
	hello := a.config.Facts()
	hello.Exposed = a.inside.exposed
	hello.Held = a.slices.held()
	hello.Condition = a.sound.condition()
	a.say(&protocol.Node{Hello: &hello})
}

type streamLost struct{ s *streamState }

func (e streamLost) apply(a *Agent) {
	if a.stream == e.s {
		a.stream = nil
	}
}

type received struct {
	s *streamState
	m *protocol.Node
}

// apply obeys a message of the present stream. Before its Fence nothing is
// obeyed, and a fence below the highest seen ends the stream (I6).
func (e received) apply(a *Agent) {
	if a.stream != e.s {
		return
	}
	if e.m.Fence != nil {
		a.passFence(*e.m.Fence)
		return
	}
	if !e.s.fenced {
		a.config.Log.Warn("arbiter spoke before naming its fence; stream closed")
		e.s.cancel()
		return
	}
	a.wordAt = a.config.Now()
	switch m := e.m; {
	case m.View != nil:
		a.learn(m.View)
	case m.Grant != nil:
		a.takeGrant(m.Grant)
	case m.Offer != nil:
		a.takeLink(m.Offer)
	case m.Revoke != nil:
		a.takeRevoke(m.Revoke)
	case m.Ended != nil:
		a.takeEnded(m.Ended)
	case m.Standby != nil:
		a.config.Standby(*m.Standby)
	case m.Superseded != nil:
		a.giveWay()
	case m.Left != nil:
		a.config.Left(m.Left.Reason)
	}
}

// giveWay stops what this process carries: the node's key was copied, and another
// process with it has taken over. The arbiter is told that this one still ran.
func (a *Agent) giveWay() {
	a.config.Engine.Halt()
	for _, s := range a.slices.byKey {
		a.dropSlice(s, "another process runs with this node's key")
	}
	a.say(&protocol.Node{Superseded: &protocol.Superseded{}})
	a.config.Superseded()
}

// passFence accepts a fence that is not below the highest seen.
func (a *Agent) passFence(f protocol.Fence) {
	fence := mka.Fence{Incarnation: f.Incarnation, Term: f.Term}
	if fence.Less(a.floor) {
		a.config.Log.Warn("refused an arbiter of an older term", "term", f.Term, "seen", a.floor.Term)
		a.stream.cancel()
		return
	}
	if a.floor.Less(fence) {
		if err := a.config.Fenced(f); err != nil {
			// After a restart a deposed arbiter would be obeyed again.
			a.config.Log.Error("an arbiter is not obeyed, for its term cannot be saved", "term", f.Term, "error", err)
			a.stream.cancel()
			return
		}
		a.config.Log.Info("obeying arbiter", "term", f.Term, "incarnation", f.Incarnation)
	}
	a.floor = fence
	a.stream.fenced = true
	a.wordAt = a.config.Now()
	a.renewPrekeys()
}
