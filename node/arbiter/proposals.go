package arbiter

import (
	"context"
	"errors"

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
	}
}

// propose commits one command after the other: their order is the loop's.
func (a *Arbiter) propose(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-a.proposals:
			bounded, cancel := context.WithTimeout(ctx, ProposeWithin)
			result, err := a.config.Store.Propose(bounded, p.command)
			cancel()
			a.must(ctx, outcome{p, result, err})
		}
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
