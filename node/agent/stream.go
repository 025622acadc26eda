package agent

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/mka"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// streamState is the one stream the loop obeys.
type streamState struct {
	Stream
	fenced bool // the arbiter named its fence and it was not below ours
	told   bool // the usage of all slices
	calls  bool // the arbiter knows of parked sessions
	viewed bool // it said what this node is to hold
}

// redial lets others end the way to an arbiter that is none any more.
type redial struct {
	now     chan struct{}                      // the wait for the next attempt is over
	attempt atomic.Pointer[context.CancelFunc] // the present one, or its stream
}

// Redial leaves the present stream, or the attempt to open one, and dials at once: this
// node knows of another arbiter.
func (a *Agent) Redial() {
	select {
	case a.redial.now <- struct{}{}:
	default:
	}
	if cancel := a.redial.attempt.Load(); cancel != nil {
		(*cancel)()
	}
}

// keepStream dials, serves and redials until ctx ends.
func (a *Agent) keepStream(ctx context.Context) {
	for wait := RedialMin; ctx.Err() == nil; wait = min(wait*2, RedialMax) {
		if a.tryStream(ctx) {
			wait = RedialMin
		}
		select {
		case <-ctx.Done():
		case <-a.redial.now:
			wait = RedialMin / 2
		case <-time.After(wait):
		}
	}
}

// tryStream is one attempt, and the stream that comes of it to its end.
func (a *Agent) tryStream(ctx context.Context) (reached bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.redial.attempt.Store(&cancel)
	stream, err := a.config.Dial(ctx)
	if err != nil {
		a.config.Log.Debug("no arbiter reached", "error", err)
		return false
	}
	a.serveStream(ctx, stream)
	return true
}

// serveStream obeys one stream until it ends. While the arbiter's fence cannot be saved
// nothing is obeyed, but the stream stays: by it the arbiter hears what ails this node's
// disk, and tells all others. Once it is saved a new stream brings what was not heeded.
func (a *Agent) serveStream(ctx context.Context, stream Stream) {
	ctx, cancel := context.WithCancel(ctx)
	s := &streamState{Stream: stream}
	a.must(ctx, streamOpened{s})
	deaf := false // the reader's
	var saving sync.WaitGroup
	err := s.Run(ctx, func(m *protocol.Node) bool {
		if m.Fence != nil && s.Fenced != nil {
			s.Fenced(m.Trunks)
		}
		switch {
		case deaf:
		case a.keepFence(m.Fence):
			a.must(ctx, received{s, m})
		default:
			deaf = true
			saving.Go(func() { a.saveLater(ctx, *m.Fence); s.Close() })
		}
		return true
	})
	cancel()
	saving.Wait()
	a.config.Log.Debug("arbiter stream ended", "error", err)
	a.must(context.WithoutCancel(ctx), streamLost{s})
}

// saveLater tries until the fence is saved, or nobody needs it any more.
func (a *Agent) saveLater(ctx context.Context, f protocol.Fence) {
	ticker := time.NewTicker(FenceAgain)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if a.config.Fenced(f) == nil {
				return
			}
		}
	}
}

type streamOpened struct{ s *streamState }

// apply makes the newest stream the only one and introduces this node.
func (e streamOpened) apply(a *Agent) {
	if a.stream != nil {
		a.stream.Close()
	}
	a.stream, a.view.changes = e.s, false
	a.forgetEnded()
	a.forgetCalls()
	hello := a.config.Facts()
	hello.Beats, hello.Calls = true, true
	hello.Exposed = a.inside.exposed
	hello.Held = a.slices.held()
	hello.Condition = a.sound.condition()
	a.say(&protocol.Node{Hello: &hello})
}

type streamLost struct{ s *streamState }

func (e streamLost) apply(a *Agent) {
	if a.stream == e.s {
		a.stream = nil
		a.streamFooting()
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
		e.s.calls = e.m.Calls
		a.parking.other.Store(!e.m.Calls)
		a.passFence(*e.m.Fence)
		return
	}
	if !e.s.fenced {
		a.config.Log.Warn("arbiter spoke before naming its fence; stream closed")
		e.s.Close()
		return
	}
	a.wordAt = a.config.Now()
	switch m := e.m; {
	case m.View != nil:
		a.learn(m.View)
		e.s.viewed = e.s.viewed || m.View.Full
	case m.Grant != nil:
		a.takeGrant(m.Grant)
	case m.Offer != nil:
		a.takeLink(m.Offer)
	case m.Revoke != nil:
		a.takeRevoke(m.Revoke)
	case m.Unused != nil:
		a.prekeys.drop(m.Unused.SPIs)
	case m.Ended != nil:
		a.takeEnded(m.Ended)
	case m.Call != nil:
		a.takeCall(m.Call)
	case m.Known != nil:
		a.config.Told(*m.Known)
	case m.Standby != nil:
		a.config.Standby(*m.Standby)
	case m.Superseded != nil:
		a.giveWay()
	case m.Assure != nil:
		a.assured(m.Assure)
	case m.Left != nil:
		a.config.Left(m.Left.Reason)
	}
	a.footing.word(a.wordAt)
	a.hearArbiter(e.s)
}

// giveWay stops what this process carries: the node's key was copied, and another
// process with it has taken over. The arbiter is told that this one still ran.
func (a *Agent) giveWay() {
	a.config.Engine.Halt()
	for _, s := range a.slices.inOrder() {
		a.dropSlice(s, "another process runs with this node's key")
	}
	a.say(&protocol.Node{Superseded: &protocol.Superseded{}})
	a.config.Superseded()
}

// keepFence saves a fence that is above all that were; without that a deposed arbiter
// would be obeyed again after a restart.
func (a *Agent) keepFence(f *protocol.Fence) bool {
	if f == nil {
		return true
	}
	fence := mka.Fence{Incarnation: f.Incarnation, Term: f.Term}
	if !a.kept.Less(fence) {
		return true
	}
	if err := a.config.Fenced(*f); err != nil {
		a.config.Log.Error("an arbiter is not obeyed before its term can be saved; tried again and again", "term", f.Term, "error", err)
		return false
	}
	a.kept = fence
	return true
}

// passFence accepts a fence that is not below the highest seen. It has been saved.
func (a *Agent) passFence(f protocol.Fence) {
	fence := mka.Fence{Incarnation: f.Incarnation, Term: f.Term}
	if fence.Less(a.floor) {
		a.config.Log.Warn("refused an arbiter of an older term", "term", f.Term, "seen", a.floor.Term)
		a.stream.Close()
		return
	}
	if a.floor.Less(fence) || !a.obeys { // the floor of a restarted node is of the term that it comes back in
		a.config.Log.Info("obeying arbiter", "term", f.Term, "incarnation", f.Incarnation)
	}
	a.floor, a.obeys = fence, true
	a.stream.fenced = true
	a.wordAt = a.config.Now()
	a.renewPrekeys()
}
