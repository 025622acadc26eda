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
	var err error
	asked := a.ask(ctx, func() {
		if a.stream == nil || !a.stream.fenced {
			err = ErrNoArbiter
			return
		}
		a.say(&protocol.Node{Leave: &protocol.Leave{}})
	})
	if !asked {
		return ctx.Err()
	}
	return err
}
