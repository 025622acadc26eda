package client

import "time"

// Where all nodes were restarted ten thousand clients come back, and each is told when its
// turn is (port.Wait). Until then whoever has nothing to send is quiet: what it would ask its
// agents, who know nothing of its keys any more, takes from the nodes what those need that are
// let in. Whose agents are well, and only the arbiter is busy, hears so before: it asks for
// AskedFirst, each LookEvery at least, and whom it has heard since it asks as ever. Who did so
// before it was told need not do it again, as who was parked: it comes because they are silent.
// Nor need who is told once more when its turn was to be: of ten thousand each is told two or
// three times.

// appointment is the time between a word to wait and the next attempt, and then that of the
// attempt. It is never changed.
type appointment struct {
	since, until time.Duration
	again        bool // it follows on another one
}

// asks reports whether agents that do not answer are asked because of it.
func (a *appointment) asks(now time.Duration) bool { return !a.again && now-a.since < AskedFirst }

// keepQuiet lets the wait last for the attempt that keeps an appointment, until it is welcomed or
// told something else: it may queue for seconds more. An attempt ends in any case.
func (c *Client) keepQuiet(kept bool) {
	if !kept {
		return
	}
	now := c.config.Now()
	c.appointed.Store(&appointment{since: now, until: now + AttemptWithin + WelcomeWithin, again: true})
}

// waits reports whether the client was told to come again, and has nothing to send until then.
// Nobody has proved that he may say so: it is at most for port.MaxWait and an attempt, and a
// packet to send ends it. Its dialer ends it in time; on a busy host that comes a little late.
func (c *Client) waits(now time.Duration) bool {
	a := c.appointed.Load()
	return a != nil && now < a.until+LookEvery && c.rested(now) && (!a.asks(now) || c.askedInVain(a))
}

// askedInVain reports whether all agents were asked twice lately, at two moments, and none was
// heard since. Of those that nobody answers for long this is not so: their own network may have
// been away, and they ask seldom.
func (c *Client) askedInVain(a *appointment) bool {
	held := false
	for _, s := range c.slices {
		if !s.held() {
			continue
		}
		held = true
		if s.pulse.mute == 0 || s.pulse.asked[0] < max(s.pulse.mute, a.since-AskedFirst) {
			return false
		}
	}
	return held
}

// quiet reports whether an agent is not asked for that: one that has long not answered, as all
// the others, for a packet that is lost is no silence. They take turns, one each ParkedTurn: it
// may be this host's network that was away, and what comes from inside waits for a question.
func (c *Client) quiet(s *slice, now time.Duration) bool {
	if s.pulse.mute == 0 || now-s.pulse.mute < MuteAfter || !c.waits(now) {
		return false
	}
	last, first := time.Duration(0), s.pulse.askedAt
	for _, other := range c.slices {
		if !other.held() {
			continue
		}
		if other.pulse.mute == 0 {
			return false
		}
		last, first = max(last, other.pulse.askedAt), min(first, other.pulse.askedAt)
	}
	return now-last < ParkedTurn || s.pulse.askedAt > first
}

// asksFirst reports whether an agent that does not answer is asked because the client was told
// a moment ago that its turn comes.
func (c *Client) asksFirst(s *slice, now time.Duration) bool {
	a := c.appointed.Load()
	return a != nil && a.asks(now) && s.pulse.mute != 0 && now-s.pulse.askedAt >= LookEvery
}
