package client

import (
	"net/netip"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
	"github.com/meshcrypt/meshcrypt/slicing"
)

// pulse is what the client knows of one slice's life (design 8): any
// authenticated packet is life; silence counts only from a probe on. But a packet shows
// one direction alone: who answers no question for longer does not hear us.
type pulse struct {
	rtt      probe.RTT
	calm     bool // nothing hangs on a quick verdict, see unhurried
	sequence uint32
	askedAt  time.Duration    // last probe
	asked    [2]time.Duration // the last two moments of a probe
	waiting  time.Duration    // first probe since the last sign of life; 0: none out
	mute     time.Duration    // the same, along whichever way
	open     questions        // since the last answer
	first    uint32           // the first probe along the present way
	heardAt  time.Duration    // last sign of life
	trial    bool             // no answer yet through the gateway it was moved to
	verdict  probe.Verdict    // the agent's word on its plaintext path
	lostAt   time.Duration    // since when it says along the present way that nothing goes on; 0: it does not
	load     probe.Load       // the agent's word on its load
	meter    slicing.Meter    // what its path is like
	nearest  time.Duration    // the fastest answer along the present way; 0: none yet
	stops    stops            // of its agent
	counted  bool             // the present stop was
}

func (p *pulse) restart(now time.Duration) { p.waiting, p.askedAt, p.open = 0, now, questions{} }

// answered takes an answer along the present way.
func (p *pulse) answered(r probe.Reply, now time.Duration) {
	took := max(now-r.Sent, 1)
	p.rtt.Observe(took)
	if p.nearest == 0 || took < p.nearest {
		p.nearest = took
	}
	p.verdict, p.load = r.Verdict, r.Load
	switch {
	case !p.lost():
		p.lostAt = 0
	case p.lostAt == 0:
		p.lostAt = now
	}
}

// heard notes the newest sign of life.
func (p *pulse) heard(at time.Duration) {
	p.heardAt = max(p.heardAt, at)
	if p.waiting != 0 && at >= p.waiting {
		p.waiting = 0
	}
	if p.mute != 0 && at >= p.mute {
		p.mute = 0
	}
}

// rests notes whether nothing hangs on a quick verdict. When something begins to, silence counts
// anew: asked seldom until now, a slice would be silent for one question that was lost, or for as
// long as an answer might take.
func (p *pulse) rests(calm bool, now time.Duration) {
	if p.calm && !calm && p.waiting != 0 {
		p.waiting = now
	}
	p.calm = calm
}

// silence is how long the slice may say nothing.
func (p *pulse) silence() time.Duration {
	if p.calm {
		return Unhurried * p.rtt.Silence()
	}
	return p.rtt.Silence()
}

// silent reports whether the slice said nothing for longer than it may.
func (p *pulse) silent(now time.Duration) bool {
	return p.waiting != 0 && now-p.waiting > p.silence()
}

// doubtful reports whether an answer is late, though not yet a silence.
func (p *pulse) doubtful(now time.Duration) bool {
	return p.waiting != 0 && now-p.waiting > p.silence()/2 || p.open.old(now, p.silence()/2)
}

// lost reports whether the agent says that nothing it opens goes on.
func (p *pulse) lost() bool { return p.verdict == probe.PathLost }

// witness reports whether the slice was heard so lately that its gateway lives, and no
// answer of it is late: what comes all the same shows that the gateway's other way is open.
func (p *pulse) witness(now time.Duration) bool {
	return p.heardAt != 0 && now-p.heardAt <= p.silence()/2 && !p.open.old(now, p.silence()/2)
}

// due reports whether it is time to probe: often while the slice carries or
// awaits traffic, is to be measured, or has to bear witness for a sibling, else after
// every. Who has nothing to send asks the less often the longer nobody answers: where all
// nodes restart ten thousand clients would have them drop 300,000 questions a second while
// they come up.
func (p *pulse) due(now, lastSent time.Duration, often bool, every time.Duration) bool {
	if p.waiting != 0 || p.open.count > 0 || often || now-lastSent < ActiveFor {
		every = ProbeActive
		if p.calm {
			every = p.silence() / 2
		}
	}
	if every < ProbeIdle && p.mute != 0 && now-lastSent >= ActiveFor {
		every = max(every, p.patience(now))
	}
	return now-p.askedAt >= every
}

// unmeasured reports whether a slice's path is to be known before it carries anything. Who came
// back and moves nothing has it measured by what it sends: ten thousand do at once.
func (c *Client) unmeasured(s *slice) bool {
	rests := c.session != nil && c.session.resumed && c.unused()
	return s.pulse.sequence < MeasureProbes && !s.pulse.meter.Measured() && !rests
}

// patience is how long who has nothing to send waits between two tries where nobody answers.
func (p *pulse) patience(now time.Duration) time.Duration {
	return min((now-p.mute)/MutePart, ProbeMute)
}

// mayWait reports whether a silent gateway is kept: all were silent, and there is
// nothing to send. Who waits for its turn keeps one as soon as another was silent, too: it is the
// agents then. It may be two gateways that died, so it tries the next each ParkedTurn, once round.
func (c *Client) mayWait(silent []*slice, now time.Duration) bool {
	all := c.gateways.inVain > c.gateways.count()
	turn := c.gateways.inVain > 0 && c.waits(now)
	switch {
	case c.sends(now) || !all && !turn:
		return false
	case all && turn:
		return true
	}
	return !slices.ContainsFunc(silent, func(s *slice) bool {
		every := s.pulse.patience(now)
		if turn {
			every = ParkedTurn
		}
		return now-s.pulse.waiting >= every
	})
}

// sends reports whether anything was sent lately, or was to be and found no slice.
func (c *Client) sends(now time.Duration) bool {
	if c.unsent.at != 0 && now-c.unsent.at < ActiveFor {
		return true
	}
	for _, s := range c.slices {
		if now-time.Duration(s.pair.LastSent()) < ActiveFor {
			return true
		}
	}
	return false
}

// unhurried reports whether nothing was moved since the client came and it sends nothing now:
// then a verdict may take longer. Where ten thousand come back agents answer late, and each
// slice that is given up for that costs them another agreement of keys.
func (c *Client) unhurried(now time.Duration) bool { return c.rested(now) && c.unused() }

// ask sends one probe on a slice's SA.
func (c *Client) ask(s *slice, now time.Duration) {
	p := &s.pulse
	p.sequence++
	p.askedAt = now
	if now > p.asked[1] {
		p.asked = [2]time.Duration{p.asked[1], now}
	}
	p.meter.Asked(p.sequence, now)
	if p.waiting == 0 {
		p.waiting = now
	}
	if p.mute == 0 {
		p.mute = now
	}
	p.open.ask(now)
	if !s.direct.inUse() {
		c.gateways.open.ask(now)
	}
	_ = s.pair.SendControl(c.question(p.sequence, now)) // silence is judged, not errors
	c.vouch(s)
}

// superviseLiveness probes what is due and judges who is silent. One that goes
// directly comes back to the common gateway. There a slice is condemned while a
// sibling through the same gateway is heard; when all are silent the gateway is
// left and nobody is condemned. Between the two, when a sibling is neither
// silent nor lately heard, the next tick knows more: a gateway that died must
// not cost the slice whose silence ended first. An agent that says it is lost bears
// no witness: where only such answer, they are on the host of the gateway, which is cut
// off, and it is left as soon as the answers of all others are late. Who sends and does not
// answer: see questions.go.
func (c *Client) superviseLiveness(now time.Duration) {
	judged, doubt := c.listen(now)
	late := c.askDue(judged, doubt, now)
	c.judge(judged, now)
	if slices.ContainsFunc(judged, func(s *slice) bool { return !s.pulse.silent(now) }) {
		return // the gateway was left, or is in a moment
	}
	for _, s := range late {
		if !c.quiet(s, now) {
			c.ask(s, now)
		}
	}
}

// askDue asks those whose turn it is. It gives those back that are asked only where the gateway
// is kept, though all are silent.
func (c *Client) askDue(judged []*slice, doubt bool, now time.Duration) (late []*slice) {
	leaves := c.leavesSoon(judged, now)
	for _, s := range judged {
		often := doubt || c.unmeasured(s)
		switch {
		case c.quiet(s, now) || !c.asksFirst(s, now) && !s.pulse.due(now, c.lastSent(s), often, c.restless(s, judged)):
		case leaves:
			late = append(late, s)
		default:
			c.ask(s, now)
			c.keepOpen(s, judged, now)
		}
	}
	return late
}

// leavesSoon reports whether the gateway in use will be left for silence within ProbeActive, and
// nothing hangs on a quick verdict. No answer to one more question would come in time, and all are
// asked by the next one then. Where all were left already, each is asked for as long as it is used.
func (c *Client) leavesSoon(judged []*slice, now time.Duration) bool {
	g := &c.gateways
	return g.open.count >= AskedEnough && g.inVain <= g.count() && !slices.ContainsFunc(judged, func(s *slice) bool {
		p := &s.pulse
		return !p.calm || p.waiting == 0 || now+ProbeActive-p.waiting < p.silence()
	})
}

// judge finds who is silent, and does what follows from that.
func (c *Client) judge(judged []*slice, now time.Duration) {
	c.superviseStops(judged, now)
	c.leaveLost(judged, now)
	c.leaveDirect(judged, now)
	through := throughGateway(judged)
	r := rollCall(through, now)
	if witness := c.secondWitness(judged, now); r.witness == nil {
		r.witness = witness
	}
	if r.witness != nil {
		c.reached(r.witness)
	}
	waits := len(r.silent) + len(r.unheard) + r.late
	switch alone := r.lost > 0 && r.witness == nil && waits+r.lost == len(through); {
	case c.stranded():
	case alone && c.gateways.count() > 1 && (waits > 0 || c.onlyLost(through, now)):
		c.gateways.cutOff++
		c.leaveGateway(now, "gateway is cut off from other nodes")
	case r.witness != nil:
		c.condemn(r.silent, r.witness, "silent")
		c.condemn(r.unheard, r.witness, "its agent does not hear")
	case c.unheardBy(through, now):
		c.gateways.unheard++
		c.leaveGateway(now, "nobody hears what goes through the gateway")
	case len(r.silent) == 0:
	case len(through) < len(judged) && !slices.ContainsFunc(r.silent, (*slice).usable):
		// The others go directly, so nothing hangs on the gateway.
	case len(r.silent) == len(through) && !c.mayWait(r.silent, now):
		c.leaveGateway(now, "gateway is silent")
	}
}

// roll is how the slices are that go through one gateway.
type roll struct {
	silent  []*slice
	unheard []*slice
	witness *slice // the last of those that were heard lately
	lost    int
	late    int
}

func rollCall(through []*slice, now time.Duration) (r roll) {
	for _, s := range through {
		switch {
		case s.pulse.silent(now):
			r.silent = append(r.silent, s)
		case s.pulse.lost():
			r.lost++
		case s.pulse.witness(now):
			r.witness = s
		case s.pulse.unheard(now):
			r.unheard = append(r.unheard, s)
		case s.pulse.doubtful(now):
			r.late++
		}
	}
	return r
}

// onlyLost reports whether all slices have said along their present way, for as long as an
// answer may take, that they are lost. The arbiter may have put others in the place of those
// that were silent, and what it grants cannot be agreed through a gateway that is cut off.
// It may as well be that agent alone that is: so each round of the gateways takes longer.
func (c *Client) onlyLost(through []*slice, now time.Duration) bool {
	slower := c.gateways.slower(c.gateways.cutOff)
	return !slices.ContainsFunc(through, func(s *slice) bool {
		return s.pulse.lostAt == 0 || now-s.pulse.lostAt <= s.pulse.rtt.Silence()/2<<slower
	})
}

// listen notes who was heard since the last tick. It gives the slices that may
// be judged, and whether the others are to bear witness: an answer is late, or says that
// nothing goes on.
func (c *Client) listen(now time.Duration) (judged []*slice, doubt bool) {
	calm := c.unhurried(now)
	for _, s := range c.inOrder() {
		if !s.confirmed || s.retireAt != 0 {
			continue
		}
		for _, p := range s.pairs() {
			s.pulse.heard(time.Duration(p.LastHeard()))
		}
		s.pulse.rests(calm, now)
		unfit := s.pulse.stops.often(now) || s.pulse.lost()
		if s.condemned && s.pulse.waiting == 0 && !s.pulse.unheard(now) && (!unfit || !c.usableBeside(s)) { // heard again before it was replaced
			c.reprieve(s)
		}
		doubt = doubt || s.pulse.doubtful(now) || s.pulse.lost()
		judged = append(judged, s)
	}
	return judged, doubt
}

// leaveLost stops using slices whose agents answer and pass nothing on, while another
// one is heard that does. The arbiter grants them elsewhere.
func (c *Client) leaveLost(judged []*slice, now time.Duration) {
	var lost []*slice
	var living *slice
	for _, s := range judged {
		switch {
		case s.pulse.lost():
			lost = append(lost, s)
		case s.proven() && s.pulse.witness(now):
			living = s
		}
	}
	if living != nil {
		c.condemn(lost, living, "its agent says that nothing goes on from there")
	}
}

// lastSent is when the slice last carried anything; all slices of a busy
// session are kept warm, so that any of them can take over.
func (c *Client) lastSent(s *slice) time.Duration {
	last := s.pair.LastSent()
	for _, sibling := range c.slices {
		last = max(last, sibling.pair.LastSent())
	}
	return time.Duration(last)
}

// condemn stops using silent slices at once, and says so to the arbiter and,
// over a living slice, to the egress.
func (c *Client) condemn(silent []*slice, living *slice, why string) {
	for _, s := range silent {
		if s.condemned {
			c.remind(s, living)
			continue
		}
		s.condemned = true
		c.dirty = true
		c.config.Log.Warn("slice is condemned", "why", why, "slice", s.key.number, "agent", s.grant.Agent.Short())
		ref := s.key.ref()
		ref.Reason = why
		c.say(&protocol.Client{Silent: &ref})
		c.sayVerdict(s, living)
	}
}

// sayVerdict tells the egress over a living slice that one is silent.
func (c *Client) sayVerdict(s, living *slice) {
	s.verdictAt = c.config.Now()
	verdict := append([]byte{probe.KindVerdict}, probe.VerdictBody(s.key.number, s.key.epoch)...)
	_ = living.pair.SendControl(verdict) // the egress has probes of its own
}

// remind says a verdict again: where the arbiter leaves the slice where it is nothing else keeps
// the egress from it, and the verdict may be lost, or the egress another one since. Who moves
// nothing misses nothing.
func (c *Client) remind(s, living *slice) {
	if !s.pulse.calm && c.config.Now()-s.verdictAt >= VerdictEvery {
		c.sayVerdict(s, living)
	}
}

// reprieve uses a slice again that was condemned. The arbiter leaves it where it is for a while
// if it was moved lately, and for longer if it hears of this; so the egress is told as well.
func (c *Client) reprieve(s *slice) {
	s.condemned, c.dirty = false, true
	ref := s.key.ref()
	c.say(&protocol.Client{Up: &ref})
	s.vouches = Vouches
	c.vouch(s)
}

// vouch tells the egress over a slice that this one lives: any verdict over it says so, and this
// is one about no epoch.
func (c *Client) vouch(s *slice) {
	if s.vouches > 0 {
		s.vouches--
		_ = s.pair.SendControl(append([]byte{probe.KindVerdict}, probe.VerdictBody(s.key.number, 0)...)) // it is said again
	}
}

// leaveGateway moves the slices to the next gateway and sends one packet on
// every SA at once, so that all agents learn the new way back. Who has nothing to send keeps
// its connection to the arbiter through the old one for as long as that is heard: where agents
// have a crowd to answer, all would give up what they waited for, and come anew. Nor is it
// given up yet where nobody was heard by the old one since the client moved to it. It is the
// same with an attempt to make one.
func (c *Client) leaveGateway(now time.Duration, why string) {
	old := c.gateways.at(c.gateways.current)
	next := c.passOn(now)
	c.parking.left(c.gateways.count(), now)
	c.leaveStream(now)
	c.sayLeft(why, old, next)
	kept := c.control == nil || c.control.gateway != old || c.heardMeanwhile() || c.rested(now)
	led := c.led()
	if led && !c.rested(now) {
		c.abandonThrough(old)
	}
	c.moveTo(next, now)
	switch {
	case kept:
	case led:
		c.hurry(elsewhere)
	default:
		c.gateways.blamed, c.gateways.blamedAt = old, now
	}
}

// sayLeft logs that a gateway was left. Where none answers, or none reaches other nodes, they
// are all tried several times a second, for as long as it takes: each is named once, and then
// that there is none.
func (c *Client) sayLeft(why string, old, next netip.AddrPort) {
	g, n := &c.gateways, c.gateways.count()
	switch {
	case max(g.inVain, g.cutOff) <= n:
		c.config.Log.Warn(why, "gateway", old, "next", next)
	case g.inVain == n+1:
		c.config.Log.Warn("no gateway answers; each is tried again until one does", "gateways", n)
	case g.inVain <= n && g.cutOff == n+1:
		c.config.Log.Warn("every gateway is cut off from other nodes; each is tried again until one is not", "gateways", n)
	}
}

// reached notes that a gateway leads to an agent which passes on what it opens.
func (c *Client) reached(witness *slice) {
	if c.gateways.cutOff > c.gateways.count() {
		c.config.Log.Info("a gateway reaches other nodes again", "gateway", c.gateways.at(c.gateways.current))
	}
	c.gateways.cutOff = 0
	if !witness.pulse.trial { // else what it said may have come by the way before
		c.leaveBlamed()
	}
}

// hears notes that a slice's agent hears it by its present way, and so its gateway.
func (c *Client) hears(s *slice) {
	trial := s.pulse.trial
	s.pulse.open, s.pulse.trial = questions{}, false
	c.dirty = c.dirty || trial
	if s.direct.inUse() {
		return
	}
	c.gateways.open, c.gateways.unheard = questions{}, 0
	if trial {
		c.answered()
	}
}

// answered notes that a gateway was heard.
func (c *Client) answered() {
	if c.gateways.inVain > c.gateways.count() {
		c.config.Log.Info("a gateway answers again", "gateway", c.gateways.at(c.gateways.current))
	}
	c.gateways.inVain = 0
}

// passOn takes the next gateway that this network leads to; if there is none, all
// are tried in turn and the present one stays. Those that stood still too often
// are passed over, until each of the others was tried and none was heard.
func (c *Client) passOn(now time.Duration) netip.AddrPort {
	g := &c.gateways
	others := 0
	for _, gateway := range g.list() {
		if !g.shunned(gateway, now) {
			others++
		}
	}
	picky := g.inVain < others
	g.inVain++
	for range g.count() {
		g.current++
		if picky && g.shunned(g.at(g.current), now) {
			continue
		}
		if c.notice(); !c.stranded() {
			break
		}
	}
	return g.at(g.current)
}

// adoptGateways takes a pushed list. If the gateway in use is not in it, it is
// about to stop: every slice moves on while it still forwards, and the control
// connection stays until it ends.
func (c *Client) adoptGateways(all []netip.AddrPort, now time.Duration) {
	old := c.gateways.at(c.gateways.current)
	c.gateways.replace(all, old)
	c.notice()
	if next := c.gateways.at(c.gateways.current); next != old {
		c.config.Log.Info("gateway changed", "gateway", old, "next", next)
		c.moveTo(next, now)
	}
}

// moveTo sends what does not go directly through one gateway from now on. The
// host of the old one may be gone with an agent on it: who answers first carries
// the traffic.
func (c *Client) moveTo(next netip.AddrPort, now time.Duration) {
	if c.transport.stream != nil && c.transport.gateway != next {
		c.leaveStream(now)
	}
	c.gateways.open = questions{}
	for _, s := range c.slices {
		if !s.direct.inUse() {
			c.reroute(s, now)
		}
	}
}

// reroute sends a slice along the way that is now its own, and one packet on its
// SA at once. The way is new to it.
func (c *Client) reroute(s *slice, now time.Duration) {
	for _, p := range s.pairs() {
		c.aim(s, p)
	}
	s.pulse.restart(now)
	s.pulse.meter, s.pulse.nearest, s.pulse.lostAt = slicing.Meter{}, 0, 0 // another path
	s.sizing.search.Move(c.wayOf(s).Addr().Is6())
	if s.confirmed {
		s.pulse.trial, s.pulse.first = true, s.pulse.sequence+1
		c.ask(s, now)
	}
	c.dirty = true
}
