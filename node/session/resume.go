package session

import (
	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// GrantsOnResume says whether every replica reads resumptions that grant slices; until
// it is said each of those is a command of its own, after the resumption's.
func (a *Arbitrator) GrantsOnResume(all bool) { a.regrants = all }

// resume gives a session its client's new key. Slices that are not proven under keys
// the client still has are granted anew by the same command, as far as there are agents.
// Of a crowd that comes back from a restart all are such, though its clients, who were
// silent meanwhile, say that they have keys.
func (a *Arbitrator) resume(view *registry.State, e Resume) {
	s := active(view, e.Session)
	if s == nil {
		a.refuse(e.Request, Gone, "no such session")
		return
	}
	c := &registry.ResumeKey{Session: e.Session, Request: e.Request, Key: e.Key, Hello: e.Hello}
	tag := a.proposeResume(view, s, c, func(sl registry.Slice) bool {
		return e.KeepsSAs && sl.State == registry.SliceUp && a.owned(view, sl)
	})
	if tag == 0 {
		a.refuse(e.Request, Unavailable, "too many requests at a time")
		return
	}
	l := a.live(e.Session)
	l.resuming, l.keepsSAs, l.heard = tag, e.KeepsSAs, a.now
	a.waiting[e.Request] = struct{}{}
}

// proposeResume gives 0 when too many commands are without outcome. Slices that are not
// kept are granted anew.
func (a *Arbitrator) proposeResume(view *registry.State, s *registry.Session, c *registry.ResumeKey, kept func(registry.Slice) bool) Tag {
	tag := a.nextTag()
	if tag == 0 {
		return 0
	}
	p := &proposal{command: registry.Command{ResumeKey: c}, pools: a.pools}
	a.fill(p.command.ID[:])
	a.proposals[tag] = p
	if a.regrants {
		a.regrant(view, s, tag, p, kept)
	}
	a.emit(Propose{tag, p.command})
	return tag
}

// regrant adds to a resumption what tend would propose after it: each slice to an agent,
// at its next epoch, as if there were no other but those that are kept. What has to wait,
// or has no agent now, is left to tend.
func (a *Arbitrator) regrant(view *registry.State, s *registry.Session, tag Tag, p *proposal, kept func(registry.Slice) bool) {
	carried, held := 0, false
	for _, sl := range s.Slices {
		if kept(sl) {
			if held = true; !sl.Spare {
				carried++
			}
		}
	}
	for _, sl := range s.Slices {
		known := a.slot(s.ID, sl.Number)
		known.follow(sl)
		waits := a.now < known.retryAt || held && a.now < known.holdUntil
		if kept(sl) || known.proposal != 0 || waits || a.enough(view, s, sl, carried) {
			continue
		}
		c := a.choose(view, s, sl.Number, sl.Spare)
		if c == nil || !a.refills.take(a.now) {
			continue
		}
		known.proposal = tag
		if !sl.Spare {
			carried++
		}
		p.command.ResumeKey.Slices = append(p.command.ResumeKey.Slices, a.next(view, s, sl, c))
		p.formers = append(p.formers, formerOf(sl))
	}
}

// resumeOutcome tells agents and client what the commit allows.
func (a *Arbitrator) resumeOutcome(view *registry.State, p *proposal, e Committed) {
	c := p.command.ResumeKey
	s, l := active(view, c.Session), a.lives[c.Session]
	done := !e.Unknown && ok(e.Result)
	for _, sl := range c.Slices {
		if l != nil {
			a.slot(c.Session, sl.Number).proposal = 0
		}
		if !done {
			a.giveBack(p.pools, []registry.Slice{sl}, !e.Unknown && besides(e.Result))
		}
	}
	_, waits := a.waiting[c.Request]
	if overtaken := l == nil || l.resuming != e.Tag; !done || s == nil || overtaken || !waits {
		a.notResumed(view, s, p, e, overtaken, waits)
		return
	}
	delete(a.waiting, c.Request)
	l.resuming, l.first = 0, false
	a.attach(l, c.Request)
	for _, sl := range s.Slices {
		known := a.slot(s.ID, sl.Number)
		known.follow(sl)
		known.condemned = known.condemned || sl.State != registry.SliceUp || !l.keepsSAs
	}
	a.takeRegrants(s, l, p)
	a.tend(view, s)
}

// takeRegrants sends the grants of a resumption, but for those that are superseded.
func (a *Arbitrator) takeRegrants(s *registry.Session, l *live, p *proposal) {
	for i, given := range p.command.ResumeKey.Slices {
		sl, found := sliceOf(s, given.Number)
		if !found || sl.Epoch != given.Epoch {
			a.giveBack(p.pools, []registry.Slice{given}, false)
			continue
		}
		a.slot(s.ID, sl.Number).condemned = false
		a.granted(s, l, sl, p.formers[i], false)
	}
}

// notResumed is the outcome of a resumption that nobody is served by: it failed, or its
// client has gone or asked again, or the session is over. What it granted is told to nobody.
func (a *Arbitrator) notResumed(view *registry.State, s *registry.Session, p *proposal, e Committed, overtaken, waits bool) {
	c := p.command.ResumeKey
	if !e.Unknown && ok(e.Result) {
		a.giveBack(p.pools, c.Slices, false)
		for i, sl := range c.Slices {
			a.revoke(p.formers[i], c.Session, sl.Number)
		}
	}
	if overtaken {
		a.emit(CloseClient{c.Request}) // a later request of this client has overtaken it
		return
	}
	l := a.lives[c.Session]
	l.resuming = 0
	delete(a.waiting, c.Request)
	switch {
	case e.Unknown:
		a.emit(CloseClient{c.Request})
	case s != nil && waits && len(c.Slices) > 0 && !ok(e.Result):
		a.resumeAlone(view, s, l, c)
	case !ok(e.Result) || s == nil:
		a.refuse(c.Request, Gone, "no such session")
	}
	// Where its client has gone nobody is there to take a slice; the next resumption asks
	// for what it needs.
}

// resumeAlone tries a resumption again without the grants, of which one was refused.
func (a *Arbitrator) resumeAlone(view *registry.State, s *registry.Session, l *live, c *registry.ResumeKey) {
	again := *c
	again.Slices = nil
	all := func(registry.Slice) bool { return true } // are kept, or left to tend
	if l.resuming = a.proposeResume(view, s, &again, all); l.resuming == 0 {
		a.refuse(c.Request, Unavailable, "too many requests at a time")
		return
	}
	a.waiting[c.Request] = struct{}{}
}

// grants is the slice of a number that a command gives to an agent; nil: none, as of no
// command.
func (p *proposal) grants(number uint8) *registry.Slice {
	if p == nil {
		return nil
	}
	switch c := p.command; {
	case c.GrantSlice != nil && c.GrantSlice.Slice.Number == number:
		return &c.GrantSlice.Slice
	case c.ResumeKey != nil:
		for i := range c.ResumeKey.Slices {
			if c.ResumeKey.Slices[i].Number == number {
				return &c.ResumeKey.Slices[i]
			}
		}
	}
	return nil
}

// formerOf is an epoch that is superseded. Nobody has to forget it where that was said when the
// epoch became void.
func formerOf(sl registry.Slice) former {
	if sl.State == registry.SliceVoid {
		return former{epoch: sl.Epoch}
	}
	return former{sl.Agent, sl.Epoch}
}
