package agent

import (
	"context"
	"errors"

	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// ErrNoArbiter means that nobody could confirm.
var ErrNoArbiter = errors.New("agent: no arbiter is heard")

// Leave asks the arbiter to remove this node; Config.Left hears the answer.
func (a *Agent) Leave(ctx context.Context) error {
	return a.tell(ctx, &protocol.Node{Leave: &protocol.Leave{}})
}

// Drain asks the arbiter to take this node's work away, or to give it some
// again; Report shows how much is left.
func (a *Agent) Drain(ctx context.Context, on bool) error {
	return a.tell(ctx, &protocol.Node{Drain: &protocol.Drain{On: on}})
}

// tell says something to the arbiter, if one is heard.
func (a *Agent) tell(ctx context.Context, m *protocol.Node) error {
	var err error
	asked := a.ask(ctx, func() {
		if a.stream == nil || !a.stream.fenced {
			err = ErrNoArbiter
			return
		}
		a.say(m)
	})
	if !asked {
		return ctx.Err()
	}
	return err
}
