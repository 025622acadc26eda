package session

import (
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// What becomes of slices is marked by few entries of the log: the marks that are made
// while others are on their way wait for those, and go in one command. So a login costs
// one entry for its grants and, when there are many logins, a part of one for all that
// came up; alone it costs two, for the slices of one client come up within UpGather.

// marks is what waits to be marked.
type marks struct {
	tag     Tag // of the command to come
	list    []registry.MarkSlice
	formers []former // that are over if they are marked void
	flying  int      // commands of marks without outcome
}

// TakesBatches says whether every replica reads commands of many marks; until it is
// said each mark is a command of its own.
func (a *Arbitrator) TakesBatches(all bool) { a.batches = all }

// mark proposes a new state for one epoch of a slice.
func (a *Arbitrator) mark(s *registry.Session, known *slot, sl registry.Slice, state registry.SliceState) {
	one := registry.MarkSlice{Session: s.ID, Number: sl.Number, Epoch: sl.Epoch, State: state}
	if !a.batches {
		a.proposeAbout(known, former{sl.Agent, sl.Epoch}, registry.Command{MarkSlice: &one})
		return
	}
	m := &a.marks
	if m.tag == 0 {
		if m.tag = a.nextTag(); m.tag == 0 {
			return
		}
	}
	known.proposal = m.tag
	m.list, m.formers = append(m.list, one), append(m.formers, former{sl.Agent, sl.Epoch})
	if len(m.list) == registry.MaxMarks {
		a.proposeMarks()
	}
}

// sendMarks proposes what waits, unless earlier marks have no outcome yet.
func (a *Arbitrator) sendMarks() {
	if len(a.marks.list) > 0 && a.marks.flying == 0 {
		a.proposeMarks()
	}
}

func (a *Arbitrator) proposeMarks() {
	m := &a.marks
	c := registry.Command{MarkSlices: &registry.MarkSlices{Marks: m.list}}
	a.fill(c.ID[:])
	a.proposals[m.tag] = &proposal{command: c, formers: m.formers}
	a.emit(Propose{m.tag, c})
	*m = marks{flying: m.flying + 1}
}

// marksOutcome lets the owners forget what is void.
func (a *Arbitrator) marksOutcome(view *registry.State, c *registry.MarkSlices, p *proposal, r registry.Result) {
	a.marks.flying--
	for i := range c.Marks {
		a.markOutcome(view, &c.Marks[i], p.formers[i], r)
	}
}

// markOutcome lets the old owner forget an epoch that is void.
func (a *Arbitrator) markOutcome(view *registry.State, c *registry.MarkSlice, marked former, r registry.Result) {
	l := a.lives[c.Session]
	if l == nil {
		return
	}
	a.slot(c.Session, c.Number).proposal = 0
	if ok(r) && c.State == registry.SliceVoid {
		a.revoke(marked, c.Session, c.Number)
	}
	if s := active(view, c.Session); s != nil {
		a.tend(view, s)
	}
}

// gather says that a slice which came up waits for others that its client was told of
// at the same time, so that all of them are marked together; but not for long.
func (a *Arbitrator) gather(s *registry.Session, l *live) bool {
	if !a.batches || a.now >= l.upBy {
		return false
	}
	for _, sl := range s.Slices {
		known := l.slot(sl.Number)
		if sl.State == registry.SliceGranted && known != nil && known.epoch == sl.Epoch && known.phase == offered &&
			!known.heard && !known.condemned && a.now < known.deadline {
			l.again(l.upBy)
			return true
		}
	}
	return false
}

// cameUp starts the wait of gather, unless one is under way.
func (l *live) cameUp(now time.Duration) {
	if now >= l.upBy {
		l.upBy = now + UpGather
	}
}
