package agent

import (
	"context"

	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// insideState is who reaches this node's inside interface. It is owned by the control
// loop.
type insideState struct {
	exposed bool // strangers do
	bared   bool // they do, and did not when this node started
}

// SetExposed says whether strangers reach the inside interface now.
func (a *Agent) SetExposed(ctx context.Context, exposed bool) { a.must(ctx, exposure(exposed)) }

type exposure bool

func (e exposure) apply(a *Agent) {
	is := bool(e)
	if is == a.inside.exposed {
		return
	}
	a.inside = insideState{exposed: is, bared: is && !a.config.Exposed}
	a.changes.mesh = true
	if a.stream != nil {
		a.say(&protocol.Node{Inside: &protocol.Inside{Exposed: is}})
	}
}
