package arbiter

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/session"
)

// proposal is a command on its way to the log.
type proposal struct {
	tag     session.Tag
	judged  bool // its outcome goes back to the arbitrator
	command registry.Command
	done    func(registry.Result, error) // in the loop; may be nil
}

// submit queues a command; the queue is larger than what can be without outcome.
func (a *Arbiter) submit(p proposal) {
	select {
	case a.proposals <- p:
	default:
		a.config.Log.Error("too many commands without outcome; one was not proposed")
		if p.done != nil {
			p.done(registry.Result{}, consensus.ErrOutcomeUnknown)
		}
	}
}

// flight is a command in the log's queue.
type flight struct {
	p    proposal
	wait func() (registry.Result, error) // nil: the round's last, and no command
	end  context.CancelFunc
}

// propose has the log write the commands in the loop's order. Those that are asked for
// while others are being written wait for these and go together: of a crowd that comes back
// that makes few rounds of disks and replicas for many commands, instead of one for each. A
// log at rest begins at once, and a fast disk does not make many rounds of few.
func (a *Arbiter) propose(ctx context.Context) {
	flights := make(chan flight, MaxFlying) // kept: it takes much, for rounds that are mostly of one
	begun, rounds := time.Now(), bucket{}
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-a.proposals:
			gather(ctx, func() time.Duration { return rounds.take(time.Since(begun), RoundsFree, RoundsRate) })
			a.round(ctx, p, flights)
		}
	}
}

// gather waits until another round is due, for what is to go along.
func gather(ctx context.Context, due func() (wait time.Duration)) {
	for wait := due(); wait > 0; wait = due() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// round is of a command and all that wait behind it. Outcomes are told while others are yet
// enqueued: the log's queue is shorter than a round, and a slow disk makes that wait.
func (a *Arbiter) round(ctx context.Context, p proposal, flights chan flight) {
	var landing sync.WaitGroup
	landing.Go(func() { a.land(ctx, flights) })
	a.board(ctx, p, flights)
	flights <- flight{}
	landing.Wait()
}

// board enqueues what goes with a round.
func (a *Arbiter) board(ctx context.Context, p proposal, flights chan<- flight) {
	for n := 1; ; n++ {
		bounded, cancel := context.WithTimeout(ctx, ProposeWithin)
		wait, err := a.config.Store.Enqueue(bounded, p.command)
		if err != nil {
			wait = func() (registry.Result, error) { return registry.Result{}, err }
		}
		if flights <- (flight{p, wait, cancel}); n == MaxFlying {
			return
		}
		select {
		case p = <-a.proposals:
		default:
			return
		}
	}
}

// land tells the loop the outcomes, in their order.
func (a *Arbiter) land(ctx context.Context, flights <-chan flight) {
	for f := <-flights; f.wait != nil; f = <-flights {
		result, err := f.wait()
		f.end()
		a.must(ctx, outcome{f.p, result, err})
	}
}

type outcome struct {
	p      proposal
	result registry.Result
	err    error
}

func (e outcome) apply(a *Arbiter) {
	if e.p.done != nil {
		e.p.done(e.result, e.err)
	}
	if !e.p.judged {
		return
	}
	// Losing the leadership ends this term; the next one finds out.
	unknown := e.err != nil
	if unknown && !errors.Is(e.err, consensus.ErrNotLeader) {
		a.config.Log.Warn("outcome of a command is unknown", "error", e.err)
	}
	a.step(session.Committed{Tag: e.p.tag, Result: e.result, Unknown: unknown})
}
