package agent

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/dataplane"
	"github.com/meshcrypt/meshcrypt/node/probe"
)

// TestStarvedHostFillsNoLog: that a node is silent, is heard again, or that this process stood
// still is said some times in a row, then seldom and with how often it was not (I10). Nobody is
// heard again who was not said to be silent.
func TestStarvedHostFillsNoLog(t *testing.T) {
	const times = 10 * SaidFree
	var log bytes.Buffer
	to := slog.New(slog.NewTextHandler(&log, nil))
	lines := func(what string) int { return strings.Count(log.String(), what) }
	var p peer
	flap := func(now time.Duration) {
		for _, p.silent = range []bool{true, false} {
			p.logSilence(to, "n2", now)
		}
	}
	for range times {
		flap(time.Hour)
	}
	if lines("is silent") != SaidFree || lines("heard again") != SaidFree || lines("times_not_said") != 0 {
		t.Errorf("%d times silent, %d heard again, want %d: %s", lines("is silent"), lines("heard again"), SaidFree, log.String())
	}
	flap(2 * time.Hour)
	if lines("times_not_said=144") != 1 || lines("heard again") != SaidFree+1 {
		t.Errorf("later: %s", log.String())
	}
	f := newFixture(t).ready()
	f.Agent.config.Log = to
	log.Reset()
	for range times {
		for _, f.footing.is = range []foothold{lost, firm} {
			f.footing.log(to, time.Hour)
		}
		f.probes.path.store(probe.PathLost)
		f.foundPath(probe.PathGood)
	}
	if lines("is heard; others") != SaidFree || lines("other nodes answer") != SaidFree || lines("path tested") != SaidFree {
		t.Errorf("of a host that hears nobody again and again: %s", log.String())
	}
	if f.footing.is, f.footing.named = firm, false; lines("times_not_said") != 0 {
		t.Error(log.String())
	}
	for range times {
		f.clock.Add(int64(dataplane.StallLimit + 1))
		f.do(stalled{})
	}
	if got := lines("stood still"); got < SaidFree || got > SaidFree+2 {
		t.Errorf("stood still: %d lines, want %d", got, SaidFree)
	}
	before := lines("times_not_said")
	f.clock.Add(int64(2 * time.Minute))
	if f.do(stalled{}); lines("times_not_said") != before+1 {
		t.Errorf("later: %s", log.String())
	}
}

// TestStartIsNoWarning: where all nodes start at once the arbiter's word is there before any
// other node answers. Of what is over in a moment the log says nothing; of what lasts it warns.
func TestStartIsNoWarning(t *testing.T) {
	var log bytes.Buffer
	to := slog.New(slog.NewTextHandler(&log, nil))
	var f footing
	now := time.Hour
	pass := func(d time.Duration, hear func()) {
		for ; d > 0; d -= TickEvery {
			now += TickEvery
			hear()
			f.judge(now, true)
			f.log(to, now)
		}
	}
	word := func() { f.word(now) }
	pass(SettlesWithin, word)
	pass(time.Second, func() { f.answer() })
	if log.Len() > 0 {
		t.Errorf("of what settled by itself: %s", log.String())
	}
	pass(SettlesWithin+time.Second, word)
	if got := log.String(); strings.Count(got, "no other node answers") != 1 || strings.Count(got, "\n") != 1 {
		t.Errorf("of what lasts: %s", got)
	}
	pass(time.Second, func() { f.answer() })
	if !strings.Contains(log.String(), "level=INFO msg=\"other nodes answer\"") {
		t.Errorf("it does not say that it is over: %s", log.String())
	}
	log.Reset()
	pass(WordLate, func() {}) // nothing at all: others may take over, which is no matter of a moment
	if !strings.Contains(log.String(), "level=WARN msg=\"neither") {
		t.Errorf("of a node that is cut off: %s", log.String())
	}
}
