package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// transfer moves the bytes, kills at a third and heals at two thirds.
func (s *stage) transfer(ctx context.Context) (*Verdict, error) {
	if err := sleep(ctx, settle); err != nil {
		return nil, err
	}
	limit := time.Duration(s.config.Seconds)*time.Second + dialTimeout + ExtraTime
	moving, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	p, err := s.company.start(moving, clientHost, "transfer", s.hear, "demo", "transfer", "--url", "http://"+s.company.site.web(), "--proxy", s.company.site.proxy(),
		"--bytes", strconv.FormatUint(s.config.bytes(), 10), "--rate", strconv.FormatUint(s.config.Rate, 10))
	if err != nil {
		return nil, err
	}
	if err := s.await(moving, "the first bytes through the tunnel", dialTimeout+time.Second, func(context.Context) error {
		return s.flowing(p)
	}); err != nil {
		return nil, err
	}
	v := &Verdict{}
	start := time.Now()
	s.watch(moving, ctx, p, v)
	v.Seconds = time.Since(start).Seconds()
	if ctx.Err() == nil {
		s.conclude(ctx, v)
	}
	return v, ctx.Err()
}

func (s *stage) flowing(p *process) error {
	if down, up := s.way(wayDown), s.way(wayUp); down.Received > 0 && up.Received > 0 {
		return nil
	}
	if p.ended() {
		return nil // its failure is in the verdict
	}
	return fmt.Errorf("nothing arrived so far")
}

// watch polls, reports, kills and heals until both transfers have ended. life is
// how long a node that is started again may live.
func (s *stage) watch(ctx, life context.Context, p *process, v *Verdict) {
	total := time.Duration(s.config.Seconds) * time.Second
	now := stopwatch()
	line := statusLine{}
	for next := statusEvery; ; {
		down, up := s.way(wayDown), s.way(wayUp)
		if down.done() && up.done() || p.ended() || sleep(ctx, pollEvery) != nil {
			return
		}
		if lost := s.lost(); lost != nil {
			if life.Err() == nil { // else it was told to
				s.say("%v", lost)
			}
			return
		}
		s.observe(ctx)
		if v.Killed == "" && now() >= total/3 {
			s.kill(ctx, v)
		}
		if v.Killed != "" && !v.Healed && now() >= total*2/3 {
			s.heal(life, v)
		}
		if now() >= next {
			next += statusEvery
			s.say("%s", line.next(now(), s.way(wayDown).Received, s.way(wayUp).Received, s.roles(ctx)))
		}
	}
}

// observe notes what each agent has carried so far.
func (s *stage) observe(ctx context.Context) {
	list, err := s.sessions(ctx, control.SessionsRequest{ID: s.session})
	if err != nil {
		return // while a new arbiter is elected nobody knows
	}
	for _, one := range list {
		s.ledger.note(one)
	}
}

func (s *stage) kill(ctx context.Context, v *Verdict) {
	spared, said := "", "the busiest agent"
	if s.company.site.spares() {
		if spared = s.roles(ctx).egress; spared == "" {
			return // nobody knows just now; the next look will
		}
		said += " but for the egress " + spared
	}
	victim := s.ledger.busiest(spared)
	p := s.nodes[victim]
	if p == nil {
		return
	}
	v.Killed = victim
	s.say("kill -9 %s, %s", victim, said)
	p.kill()
}

func (s *stage) heal(life context.Context, v *Verdict) {
	s.say("starting %s again", v.Killed)
	p, err := s.begin(life, v.Killed, nil, "run", "--data-dir", s.dataDir(v.Killed))
	if err != nil {
		s.say("%v", err)
		v.Killed += " (not started again)"
		return
	}
	s.nodes[v.Killed], v.Healed = p, true
}

// conclude asks how the session and the healed node are.
func (s *stage) conclude(ctx context.Context, v *Verdict) {
	s.observe(ctx)
	v.Shares, v.Lost, v.Carried = s.ledger.shares(), 1, s.ledger.sum()
	err := until(ctx, "the session", ExtraTime/3, func(ctx context.Context) error {
		list, err := s.sessions(ctx, control.SessionsRequest{ID: s.session})
		if err == nil && len(list) == 1 && list[0].State == "active" {
			v.Lost = 0
		}
		return err
	})
	if err != nil {
		s.say("%v", err)
	}
	if v.Healed {
		v.Healed = until(ctx, v.Killed, ExtraTime/3, func(ctx context.Context) error {
			if p := s.nodes[v.Killed]; p.ended() {
				return p.gone()
			}
			return s.hasArbiter(ctx, v.Killed)
		}) == nil
	}
	v.ended = s.lost()
	s.giveUp()
	v.Down, v.Up = s.way(wayDown), s.way(wayUp)
}

// roles is who does what for the session, for the live line.
type roles struct {
	slices                   map[string][]string // agent → its slices
	gateways                 []string
	egress, arbiter, session string
}

func (s *stage) roles(ctx context.Context) (r roles) {
	r.slices = make(map[string][]string)
	list, err := s.sessions(ctx, control.SessionsRequest{ID: s.session})
	if err == nil && len(list) == 1 {
		r.session, r.egress = list[0].State, list[0].Egress
		for _, sl := range list[0].Slices {
			r.slices[sl.Agent] = append(r.slices[sl.Agent], strconv.Itoa(int(sl.Number)))
		}
	}
	for i := range s.config.Nodes {
		name := nodeName(i)
		var status control.Status
		if p := s.nodes[name]; p == nil || p.ended() || s.call(ctx, name, control.OpStatus, control.Nothing{}, &status) != nil {
			continue
		}
		if status.Routes > 0 {
			r.gateways = append(r.gateways, name)
		}
		if status.Arbiter != "" {
			r.arbiter = status.Arbiter
		}
	}
	return r
}

// statusLine remembers what the last line showed, to tell speeds.
type statusLine struct {
	at       time.Duration
	down, up uint64
}

func (l *statusLine) next(at time.Duration, down, up uint64, r roles) string {
	took := at - l.at
	text := fmt.Sprintf("%3.0f s  down %6.1f  up %6.1f Mbit/s  %s  gateway %s  egress %s  arbiter %s",
		at.Seconds(), speed(l.down, down, took), speed(l.up, up, took),
		slicesOf(r.slices), orDash(strings.Join(r.gateways, ",")), orDash(r.egress), orDash(r.arbiter))
	*l = statusLine{at, down, up}
	return text
}

// slicesOf lists agents with the numbers of their slices.
func slicesOf(m map[string][]string) string {
	var list []string
	for _, agent := range slices.Sorted(maps.Keys(m)) {
		list = append(list, strings.Join(m[agent], "+")+" at "+agent)
	}
	return "slice " + orDash(strings.Join(list, ", "))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
