package session

import (
	"cmp"
	"io"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// proposal is a command whose outcome is not known yet.
type proposal struct {
	command registry.Command
	former  former   // what the command supersedes or voids
	formers []former // the same of each mark of a MarkSlices, or slice of a ResumeKey
	pools   uint64   // as it was proposed
	unknown bool     // asked, and the answer was lost
	retryAt time.Duration
}

// former is an epoch of a slice that is over, and who has to forget it. An epoch does not say
// which one was before it.
type former struct {
	owner identity.NodeID // zero: nobody
	epoch uint32
}

// propose puts a command to the log under a fresh ID. It gives 0 when too
// many are without outcome; whoever wants the command asks again later.
func (a *Arbitrator) propose(c registry.Command) Tag {
	tag := a.nextTag()
	if tag == 0 {
		return 0
	}
	a.fill(c.ID[:])
	a.proposals[tag] = &proposal{command: c, pools: a.pools}
	a.emit(Propose{tag, c})
	return tag
}

// nextTag is 0 when too many commands are without outcome.
func (a *Arbitrator) nextTag() Tag {
	if len(a.proposals) >= MaxProposals {
		a.crowded = true
		return 0
	}
	a.lastTag++
	return a.lastTag
}

func (a *Arbitrator) fill(id []byte) {
	if _, err := io.ReadFull(a.random, id); err != nil {
		panic("session: random: " + err.Error())
	}
}

// committed hands an outcome to whoever proposed. Of an unknown outcome
// nothing is sent to anybody: a request's stream is closed, anything else is
// proposed again later under the same ID.
func (a *Arbitrator) committed(view *registry.State, e Committed) {
	p := a.proposals[e.Tag]
	if p == nil {
		return
	}
	c := p.command
	if e.Unknown && c.OpenSession == nil && c.ResumeKey == nil {
		p.unknown, p.retryAt = true, a.now+RetryEvery
		a.unknown++
		return
	}
	delete(a.proposals, e.Tag)
	if p.unknown {
		a.unknown--
	}
	a.stir(sessionOf(c))
	switch {
	case c.OpenSession != nil:
		a.openOutcome(view, c.OpenSession, e)
	case c.ResumeKey != nil:
		a.resumeOutcome(view, p, e)
	case c.GrantSlice != nil:
		a.grantOutcome(view, c.GrantSlice, p, e.Result)
	case c.WeighSlices != nil:
		a.weighOutcome(c.WeighSlices, e.Tag, e.Result)
	case c.MarkSlice != nil:
		a.markOutcome(view, c.MarkSlice, p.former, e.Result)
	case c.MarkSlices != nil:
		a.marksOutcome(view, c.MarkSlices, p, e.Result)
	case c.MovePart != nil:
		a.moveOutcome(view, c.MovePart, e.Result)
	case c.EndSession != nil:
		a.endOutcome(view, c.EndSession, e.Result)
	case c.SetRoles != nil:
		a.rolesOutcome(view, c.SetRoles, e.Result)
	}
}

// retryUnknown proposes again what nobody could say the outcome of.
func (a *Arbitrator) retryUnknown() {
	if a.unknown == 0 {
		return
	}
	var due []Tag
	for tag, p := range a.proposals {
		if p.unknown && a.now >= p.retryAt {
			due = append(due, tag)
		}
	}
	slices.SortFunc(due, cmp.Compare)
	for _, tag := range due {
		p := a.proposals[tag]
		p.unknown = false
		a.unknown--
		if p.command.MovePart != nil {
			a.moveUnknown(tag, p.command.MovePart)
			continue
		}
		a.emit(Propose{tag, p.command})
	}
}

// sessionOf is the session that a command is about; zero where it is about none.
func sessionOf(c registry.Command) (id registry.SessionID) {
	switch {
	case c.GrantSlice != nil:
		id = c.GrantSlice.Session
	case c.WeighSlices != nil:
		id = c.WeighSlices.Session
	case c.MarkSlice != nil:
		id = c.MarkSlice.Session
	case c.EndSession != nil:
		id = c.EndSession.Session
	case c.ResumeKey != nil:
		id = c.ResumeKey.Session
	}
	return id
}

func ok(r registry.Result) bool { return r.Code == "" }
