package agent

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/loop"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestFenceIsSavedFirst: what could not be kept across a restart is not obeyed (I6).
func TestFenceIsSavedFirst(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.fences = nil
	f.obey(f.floor.Term)
	if len(f.fences) != 0 {
		t.Errorf("a known fence is saved again: %v", f.fences)
	}
	f.unsaved = errors.New("the disk is full")
	was := f.floor
	f.open()
	f.hear(&protocol.Node{Fence: &protocol.Fence{Incarnation: 1, Term: was.Term + 1}})
	f.until("the stream is closed", f.line.isClosed)
	f.hear(&protocol.Node{Revoke: &protocol.Revoke{Slice: c.sliceKey().ref()}})
	if f.slices.byKey[c.sliceKey()] == nil || f.floor != was {
		t.Errorf("I6: obeyed, fence %+v", f.floor)
	}
	f.unsaved, f.fences = nil, nil
	f.obey(was.Term + 1)
	if want := []protocol.Fence{{Incarnation: 1, Term: was.Term + 1}}; !slices.Equal(f.fences, want) || f.floor.Term != was.Term+1 {
		t.Errorf("saved %v, fence %+v", f.fences, f.floor)
	}
}

// TestObeyedArbiterIsLogged: the first one since the start, also in the term that was known
// before, as after a restart; after that each new term, and no stream of the same one.
func TestObeyedArbiterIsLogged(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	f.Agent.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	for i, c := range []struct {
		term  uint64
		lines int
	}{{f.floor.Term, 1}, {f.floor.Term, 1}, {f.floor.Term + 1, 2}, {f.floor.Term + 1, 2}} {
		f.obey(c.term)
		if lines := strings.Count(log.String(), "obeying arbiter"); lines != c.lines {
			t.Errorf("stream %d: %d lines, want %d: %s", i, lines, c.lines, log.String())
		}
	}
}

// TestSlowDiskStopsNoLoop: while a fence is on its way to a slow disk the loop turns, or
// others would take this node for dead; and the arbiter is not obeyed yet.
func TestSlowDiskStopsNoLoop(t *testing.T) {
	f := newFixture(t)
	was := f.floor
	saving, saved := make(chan struct{}), make(chan struct{})
	f.Agent.config.Fenced = func(protocol.Fence) error {
		close(saving)
		select {
		case <-saved:
		case <-time.After(hangLimit):
			t.Error("the loop waits for the disk")
		}
		return nil
	}
	near, far := net.Pipe()
	defer far.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		f.Agent.serveStream(t.Context(), Stream{Stream: loop.New(near, protocol.NewStream, loop.Nodes(), MaxOutbox), Arbiter: f.arbiter.Public()})
	}()
	go func() { _, _ = io.Copy(io.Discard, far) }()
	if err := protocol.NewStream(far).Write(&protocol.Node{Fence: &protocol.Fence{Incarnation: 1, Term: was.Term + 1}}); err != nil {
		t.Fatal(err)
	}
	f.until("the fence goes to the disk", func() bool {
		select {
		case <-saving:
			return true
		default:
			return false
		}
	})
	f.advance(TickEvery)
	if f.floor != was {
		t.Error("I6: obeyed before the fence was saved")
	}
	close(saved)
	f.until("the arbiter is obeyed", func() bool { return f.floor.Term == was.Term+1 })
	f.Agent.stream.Close()
	<-served
}

// TestUnsavedFenceKeepsTheStream: an arbiter whose fence cannot be saved is not obeyed, but
// it hears what this node says, its disk's fault among that. Once the fence is saved the
// stream ends, for a new one to bring what was not heeded.
func TestUnsavedFenceKeepsTheStream(t *testing.T) {
	f := newFixture(t)
	was := f.floor
	var mended atomic.Bool
	tried := make(chan struct{}, 16)
	f.Agent.config.Fenced = func(protocol.Fence) error {
		if mended.Load() {
			return nil
		}
		tried <- struct{}{}
		return errors.New("the disk fails")
	}
	near, far := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		f.Agent.serveStream(t.Context(), Stream{Stream: loop.New(near, protocol.NewStream, loop.Nodes(), MaxOutbox), Arbiter: f.arbiter.Public()})
	}()
	heard := make(chan *protocol.Node, 64)
	go func() {
		defer close(heard)
		for stream := protocol.NewStream(far); ; {
			m, err := stream.Read()
			if err != nil {
				return
			}
			heard <- m
		}
	}()
	say := func(m *protocol.Node) {
		if err := protocol.NewStream(far).Write(m); err != nil {
			t.Fatal(err)
		}
	}
	say(&protocol.Node{Fence: &protocol.Fence{Incarnation: 1, Term: was.Term + 1}})
	<-tried
	say(&protocol.Node{View: f.view(3)})
	loads := 0
	f.until("the arbiter hears the load", func() bool {
		f.advance(TickEvery)
		select {
		case m := <-heard:
			if m != nil && m.Load != nil {
				loads++
			}
		default:
		}
		return loads > 1
	})
	if f.floor != was || len(f.Agent.view.nodes) != 0 {
		t.Errorf("I6: obeyed before the fence was saved: %+v, %d nodes", f.floor, len(f.Agent.view.nodes))
	}
	<-tried // again
	mended.Store(true)
	f.until("the stream has ended", func() bool {
		select {
		case <-served:
			return true
		default:
			return false
		}
	})
}

// TestHistoryIsPassedOn: of the arbiter that is obeyed, and of nobody else.
func TestHistoryIsPassedOn(t *testing.T) {
	f := newFixture(t).ready()
	f.history = nil
	f.open()
	f.hear(&protocol.Node{Known: &protocol.Known{Index: 7}})
	if len(f.history) != 0 {
		t.Error("I6: an arbiter without fence is believed")
	}
	f.obey(f.floor.Term)
	f.hear(&protocol.Node{Known: &protocol.Known{Index: 8}})
	if len(f.history) != 1 || f.history[0].Index != 8 {
		t.Errorf("%+v", f.history)
	}
}

// TestGivesWay: a node whose key another process has carries nothing, and says that it
// ran.
func TestGivesWay(t *testing.T) {
	f := newFixture(t).ready()
	c := f.customer(f.offered()[0], nil).up()
	f.open()
	f.hear(&protocol.Node{Superseded: &protocol.Superseded{}})
	if f.superseded {
		t.Fatal("I6: an arbiter without fence is believed")
	}
	f.obey(f.floor.Term)
	f.hear(&protocol.Node{Superseded: &protocol.Superseded{}})
	said := saying(f, func(m *protocol.Node) *protocol.Superseded { return m.Superseded })
	if !f.superseded || len(said) != 1 || f.slices.byKey[c.sliceKey()] != nil {
		t.Errorf("superseded %v, said %d, slices %d", f.superseded, len(said), len(f.slices.byKey))
	}
	before := f.Agent.config.Engine.Stats().Dropped[dataplane.DropStalled]
	f.ok(c.pair.SendControl(probe.Ask(2, 0)))
	f.until("no packet is opened", func() bool { return f.Agent.config.Engine.Stats().Dropped[dataplane.DropStalled] > before })
}
