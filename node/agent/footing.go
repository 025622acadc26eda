package agent

import (
	"log/slog"
	"time"

	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/node/said"
)

// footing is what this node has heard lately of the rest of its mesh: whether it may
// answer for what another would take over if this node were gone. It has no clock;
// what is heard and the time go in.
//
// Answers count, not questions: an answer shows that both ways are open, and who is
// not heard by others has lost its parts to them as surely as who hears nothing. The
// arbiter's word counts too, for the inside network may have failed for all alike; one
// that may have waited on the way, or is of an arbiter on this host that has yet to
// notice, gives nothing back. Where less than three vote there is no majority to be cut
// off from: the one host that is left of two cannot tell, and goes on.
type footing struct {
	is       foothold
	answered bool // by any node, since it was judged last
	quiet    int  // how often in a row it was judged without an answer
	judgedAt time.Duration
	wordAt   time.Duration // the last word of an arbiter
	sureAt   time.Duration // when one answered that had told this node everything
	lostAt   time.Duration
	firmAt   time.Duration
	losses   uint64 // numbers what is asked of the arbiter

	wordedAt time.Duration
	said     foothold  // the verdict that the log was last for
	outages  said.Line // how often it was said that nobody answers
	named    bool      // it was the last time
}

type foothold byte

const (
	firm   foothold = iota // another node answers
	worded                 // none does, but an arbiter speaks
	lost                   // neither: others may have taken over
)

func (f *footing) answer() { f.answered = true }

func (f *footing) word(now time.Duration) { f.wordAt = now }

// sure is an answer of an arbiter, after all that it decided before: a node that had
// let go may go by what it knows now.
func (f *footing) sure(now time.Duration) {
	f.wordAt, f.sureAt = now, now
	if f.is == lost {
		f.is, f.wordedAt = worded, now
	}
}

func (f *footing) lose(now time.Duration) {
	f.is, f.lostAt = lost, now
	f.losses++
}

// judge is called once a tick, and reports whether the verdict changed.
func (f *footing) judge(now time.Duration, quorum bool) (changed bool) {
	switch {
	case f.answered || !quorum:
		f.quiet = 0
	case now-f.judgedAt >= TickEvery/2: // two ticks after a pause are one
		f.quiet++
	}
	was := f.is
	f.answered, f.judgedAt = false, now
	switch {
	case f.quiet == 0 && f.is != firm:
		f.is, f.firmAt = firm, now
	case f.is == firm && f.quiet >= LetGoMisses && now-f.wordAt <= TickEvery:
		f.is, f.wordedAt = worded, now
	case f.is == firm && f.quiet >= LetGoMisses, f.is == worded && now-f.wordAt > WordLate:
		f.lose(now)
	}
	return f.is != was
}

// log is called once a tick and says what the verdict is now, once and within bounds as that of
// a single node (see logSilence). That an arbiter's word stands in for all answers is said when
// it has lasted: where all nodes start at once it is over in a moment.
func (f *footing) log(to *slog.Logger, now time.Duration) {
	if f.is == f.said || f.is == worded && now-f.wordedAt < SettlesWithin {
		return
	}
	f.said = f.is
	if f.is == firm {
		if f.named {
			to.Info("other nodes answer")
		}
		return
	}
	var unsaid int
	if unsaid, f.named = f.outages.Say(now, SaidFree, SaidRate); !f.named {
		return
	}
	line := "neither an arbiter nor any other node is heard; others may take over what this node holds"
	if f.is == worded {
		line = "no other node answers; going by the arbiter's word"
	}
	to.Warn(line, said.Left(unsaid)...)
}

// quorum reports whether the mesh has voters of which a majority can be elsewhere.
func (a *Agent) quorum() bool {
	voters := 0
	for _, n := range a.view.nodes {
		if n.Voter {
			voters++
		}
	}
	return voters >= 3
}

// superviseFooting lets go of what this node may not hold any more, and takes it
// back when nobody else has it.
func (a *Agent) superviseFooting(now time.Duration) {
	changed := a.footing.judge(now, a.quorum())
	if changed {
		a.changes.mesh = true
	}
	a.footing.log(a.config.Log, now)
	if a.footing.is == lost && (changed || a.ticks%LoadTicks == 0) || a.ticks%LoadTicks == 0 && a.ceded() {
		a.say(&protocol.Node{Assure: &protocol.Assure{Number: a.footing.losses}})
	}
	for _, p := range a.view.partsInOrder() {
		switch {
		case p.taken && a.footing.is == lost:
			a.giveBack(p)
		case p.row.Egress != a.config.Key.ID() || p.lapsed == (a.footing.is == lost):
		case !p.lapsed:
			a.lapse(p, true)
		case a.mayResume(p, now):
			a.lapse(p, false)
			a.contest(p, now) // who took it over meanwhile is to know at once
		}
		a.superviseClaim(p, now)
	}
}

// ceded reports whether this node left a part that is its own to another's claim.
func (a *Agent) ceded() bool {
	for _, p := range a.view.parts {
		if p.lapsed && p.claim.cededAt != 0 && p.row.Egress == a.config.Key.ID() {
			return true
		}
	}
	return false
}

// assured takes the arbiter's answer. One on this host may lead without a majority
// until its lease is over.
func (a *Agent) assured(m *protocol.Assure) {
	now := a.config.Now()
	if m.Number == a.footing.losses && (a.view.arbiter != a.config.Key.ID() || now-a.footing.lostAt > WordLate) {
		a.footing.sure(now)
	}
}

// streamFooting notes the end of the stream. The arbiter on this host ends it when its
// term is over, often for want of a majority: then what it said a moment ago says nothing.
func (a *Agent) streamFooting() {
	if a.view.arbiter != a.config.Key.ID() {
		return
	}
	a.footing.wordAt = 0
	if a.footing.is == worded {
		a.footing.lose(a.config.Now())
	}
}

func (a *Agent) lapse(p *part, lapsed bool) {
	p.lapsed = lapsed
	a.settlePart(p)
	a.changes.mesh = true
}

// mayResume reports whether no other node has a part that this one let go: an arbiter
// has answered since and left it here, or none has for a while, and nobody claims it.
func (a *Agent) mayResume(p *part, now time.Duration) bool {
	f, c := &a.footing, &p.claim
	if f.sureAt > max(f.lostAt, c.cededAt) {
		return true
	}
	return f.is == firm && now-f.firmAt >= ResumeAfter && (c.heardAt == 0 || now-c.heardAt >= ResumeAfter)
}
