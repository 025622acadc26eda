package agent

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// TestBusyLoopBlamesNobody: a loop that was busy for longer than a node may be silent asked
// nobody meanwhile, and what others said waits. Neither makes them silent, nor has it this
// node let go of what it holds; a silence that lasts does, counted from then on.
func TestBusyLoopBlamesNobody(t *testing.T) {
	const busy = ReplyWithin - 2*TickEvery
	silent := func(f *fixture) bool { return f.probes.silent(2) || f.probes.silent(3) }
	ready := func(t *testing.T) *fixture {
		f := newFixture(t).second()
		f.pass(time.Second, 2, 3)
		f.footing.wordAt = f.Agent.config.Now() - WordLate // it has its footing by nodes alone
		return f
	}
	t.Run("answers wait", func(t *testing.T) {
		f := ready(t)
		f.runs(busy)
		for range 2 * LetGoMisses {
			f.answerLate(2, 3)
			if f.tick(); silent(f) || f.footing.is == lost {
				t.Fatal("who has answered is silent")
			}
			f.runs(TickEvery)
		}
	})
	t.Run("nobody was asked", func(t *testing.T) {
		f := ready(t)
		f.runs(busy)
		if f.tick(); silent(f) {
			t.Fatal("who was not asked is silent")
		}
		f.advance(ProbeMisses * TickEvery)
		if f.advance(2 * TickEvery); !silent(f) {
			t.Error("a silence that lasts is none")
		}
	})
	t.Run("the process stood still", func(t *testing.T) {
		f := ready(t)
		f.clock.Add(int64(busy))
		if f.tick(); !silent(f) {
			t.Error("others may have taken over, and will not be told what this node holds")
		}
	})
	t.Run("the process stood still, and answers of before wait", func(t *testing.T) {
		f := ready(t)
		f.advance(TickEvery) // they are asked
		f.answerLate(2, 3)
		f.clock.Add(int64(busy))
		if f.tick(); !silent(f) {
			t.Error("what was answered before says nothing of what others have done since")
		}
	})
}

// TestBusyLoopIsSaid: an operator reads that the agent had no turn, and not that the process
// stood still, which it did not; nor the other way round, nor of what is every day's.
func TestBusyLoopIsSaid(t *testing.T) {
	const busy, still = "the agent had no turn", "this process stood still"
	for name, c := range map[string]struct {
		pass func(*fixture)
		line string
	}{
		"in time":               {func(f *fixture) { f.runs(dataplane.StallLimit) }, ""},
		"busy":                  {func(f *fixture) { f.runs(dataplane.StallLimit + TickEvery) }, busy + `: it has much to do, or too little CPU" for=400ms`},
		"too busy to be obeyed": {func(f *fixture) { f.runs(dataplane.OwnerLimit + time.Second) }, busy + `: it has much to do, or too little CPU" for=6s`},
		"stopped":               {func(f *fixture) { f.clock.Add(int64(dataplane.StallLimit + TickEvery)) }, still + `" for=400ms`},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t).ready()
			f.advance(TickEvery)
			var log bytes.Buffer
			f.Agent.config.Log = slog.New(slog.NewTextHandler(&log, nil))
			c.pass(f)
			f.tick()
			got := log.String()
			if c.line == "" && (strings.Contains(got, busy) || strings.Contains(got, still)) || !strings.Contains(got, c.line) ||
				strings.Contains(got, busy) && strings.Contains(got, still) {
				t.Errorf("want %q: %s", c.line, got)
			}
			for range 10 * SaidFree {
				c.pass(f)
				f.tick()
			}
			if lines := strings.Count(log.String(), busy) + strings.Count(log.String(), still); lines > SaidFree+int(60*10*SaidFree*SaidRate) {
				t.Errorf("%d lines", lines)
			}
		})
	}
}

// TestWhyKeysAreGivenUp: the log says which of the two it was.
func TestWhyKeysAreGivenUp(t *testing.T) {
	for reason, pass := range map[string]func(*fixture){
		"this node stood still":         func(f *fixture) { f.clock.Add(int64(RestartAfter + TickEvery)) },
		"this node's agent had no turn": func(f *fixture) { f.runs(dataplane.OwnerLimit + time.Second) },
	} {
		f := newFixture(t).ready()
		f.customer(f.offered()[0], nil).up()
		f.advance(TickEvery)
		var log bytes.Buffer
		f.Agent.config.Log = slog.New(slog.NewTextHandler(&log, nil))
		pass(f)
		f.tick()
		if want := fmt.Sprintf("reason=%q", reason); strings.Count(log.String(), want) != 1 {
			t.Errorf("want %s: %s", want, log.String())
		}
	}
}

// TestNoTurnBeforeTheFirst: a loop that has not begun is not late.
func TestNoTurnBeforeTheFirst(t *testing.T) {
	f := newFixture(t)
	var log bytes.Buffer
	f.Agent.config.Log = slog.New(slog.NewTextHandler(&log, nil))
	f.runs(time.Second)
	if f.tick(); strings.Contains(log.String(), "no turn") {
		t.Error(log.String())
	}
}

// answerLate has answers of nodes to the last question wait for the loop.
func (f *fixture) answerLate(from ...identity.Index) {
	for _, ix := range from {
		f.nodes <- nodeDatagram{probe.Node{Type: probe.TypeReply, From: ix, Asked: probe.TypeNode, Sequence: f.probes.sequence}}
	}
}

// runs lets time pass in which the process runs and its loop does not.
func (f *fixture) runs(d time.Duration) {
	const step = dataplane.StallLimit / 3
	for ; d > 0; d -= step {
		f.clock.Add(int64(min(d, step)))
		f.Agent.config.Engine.Pulse()
	}
}

// TestExcuseIsAsLongAsTheLoopIsLate: a loop that is a little late each time sees a death all the
// same, and nobody was heard later than now.
func TestExcuseIsAsLongAsTheLoopIsLate(t *testing.T) {
	const judged = time.Hour
	for _, c := range []struct{ heard, now, want time.Duration }{
		{judged - TickEvery, judged + TickEvery, judged - TickEvery},
		{judged - TickEvery, judged + TickEvery/2, judged - TickEvery},
		{judged - TickEvery, judged + 3*TickEvery/2, judged - TickEvery/2},
		{judged + 2*time.Second, judged + 10*time.Second, judged + 10*time.Second},
	} {
		p := &proberState{judgedAt: judged, peers: map[identity.Index]*peer{2: {heardAt: c.heard}}}
		if p.excuse(c.now); p.peers[2].heardAt != c.want {
			t.Errorf("heard at %v, judged again at %v: as if at %v, want %v", c.heard-judged, c.now-judged, p.peers[2].heardAt-judged, c.want-judged)
		}
	}
}

// flood is an event after which there is another one.
type flood struct{ took *int }

func (e flood) apply(a *Agent) {
	*e.took++
	a.nodes <- e
}

// TestHearingEnds: all that waits is heard, and what comes meanwhile has its turn.
func TestHearingEnds(t *testing.T) {
	f := newFixture(t)
	took := 0
	for range 3 {
		f.nodes <- flood{&took}
	}
	if f.hearNodes(); took != 3 {
		t.Errorf("%d of 3 were heard", took)
	}
}
