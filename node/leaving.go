package node

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/control"
)

// askLeave gives up the membership: the lead is passed on, then the arbiter
// moves what this node carries, takes its vote, removes it, and says so. Nothing
// is lost on the way, and nothing happens at all if nobody could be arbiter.
func (n *Node) askLeave(r *http.Request, _ control.Nothing) (control.Nothing, error) {
	ctx, cancel := context.WithTimeout(r.Context(), WorkMoves)
	defer cancel()
	ticker := time.NewTicker(WorkLook)
	defer ticker.Stop()
	var asked time.Time
	var last error
	for !n.hasLeft() {
		leads, err := n.abdicate(ctx)
		if err != nil {
			return control.Nothing{}, err
		}
		if !leads && time.Since(asked) >= LeaveAgain {
			if last = n.agent.Leave(ctx); last == nil {
				asked = time.Now()
			}
		}
		select {
		case <-ctx.Done():
			return control.Nothing{}, control.Errorf(control.CodeDegraded,
				"run meshcrypt leave again, or: meshcrypt undrain; meshcrypt status tells what the mesh lacks",
				"this node has not left: the arbiter did not confirm%s", because(last))
		case <-n.gone:
		case <-ticker.C:
		}
	}
	return control.Nothing{}, nil
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + ")"
}

// abdicate passes the lead on, if this node has it, once there is another
// voter. It reports whether this node leads still, and refuses when there is
// nobody to follow it.
func (n *Node) abdicate(ctx context.Context) (leads bool, err error) {
	store, a := n.store.Load(), n.arbiter.Load()
	if store == nil || a == nil {
		return false, nil
	}
	own := n.trust.Key.ID()
	voters := 0
	for _, server := range store.Servers() {
		if server.Voter && server.ID != own {
			voters++
		}
	}
	if voters > 0 {
		// Without success it is tried again.
		_ = store.TransferLeadership(ctx)
		return true, nil
	}
	heir, err := a.Heir(ctx, own)
	switch {
	case err != nil:
		return true, nil // the term is over
	case !heir:
		return true, control.Errorf(control.CodeDenied,
			"let a host join that may vote (meshcrypt token create --roles voter,gateway,agent); "+
				"to end the mesh, stop the daemon and remove "+n.dir.Path(""),
			"this is the last node that may vote: without it the mesh has no arbiter")
	}
	_ = a.Leaving(ctx, own) // the electorate gives the vote to the heir
	return true, nil
}

// drainAndWait drains a node, this one unless named, and waits until nothing
// is left on it; or gives it work again.
func (n *Node) drainAndWait(r *http.Request, in control.DrainRequest) (control.Nothing, error) {
	if in.Node == "" {
		in.Node = n.trust.Key.ID().String()
	}
	ctx, cancel := context.WithTimeout(r.Context(), WorkMoves)
	defer cancel()
	r = r.WithContext(ctx)
	ticker := time.NewTicker(WorkLook)
	defer ticker.Stop()
	drain := n.orPassOn(control.OpDrain, n.arbiterOperations()[control.OpDrain])
	body, err := json.Marshal(in)
	if err != nil {
		return control.Nothing{}, err
	}
	for {
		answer, err := drain(r, control.CallerLocal, body)
		if err != nil {
			return control.Nothing{}, err
		}
		left, err := drained(answer)
		if err != nil || in.Undo || !left.Holds {
			return control.Nothing{}, err
		}
		select {
		case <-ctx.Done():
			return control.Nothing{}, control.Errorf(control.CodeDegraded,
				"run the same command again; meshcrypt members tells what it carries",
				"the node is drained but still carries work: no other node took it, or a client is away")
		case <-ticker.C:
		}
	}
}

// drained reads the arbiter's answer, which came over the wire or not.
func drained(answer any) (left control.Drained, err error) {
	raw, ok := answer.(json.RawMessage)
	if !ok {
		if raw, err = json.Marshal(answer); err != nil {
			return left, err
		}
	}
	return left, json.Unmarshal(raw, &left)
}

// drain is the arbiter's part: it withdraws a node's roles, or gives them
// back, and says whether the node holds anything still.
func (n *Node) drain(r *http.Request, in control.DrainRequest) (left control.Drained, err error) {
	a, err := n.term()
	if err != nil {
		return left, err
	}
	id, err := n.findMember(in.Node)
	if err != nil {
		return left, err
	}
	if err := a.Drain(r.Context(), id, !in.Undo); err != nil {
		return left, err
	}
	left.Holds, err = a.Holds(r.Context(), id)
	return left, err
}

// findMember resolves a name or the first characters of an id.
func (n *Node) findMember(name string) (id identity.NodeID, err error) {
	store := n.store.Load()
	if store == nil {
		return id, consensus.ErrNotLeader
	}
	store.View(func(s *registry.State) {
		for _, node := range s.Members() {
			if node.Name == name || name != "" && strings.HasPrefix(node.ID.String(), name) {
				id = node.ID
			}
		}
	})
	if id.IsZero() {
		return id, control.Errorf(control.CodeFailed, "meshcrypt members", "no member is called %q", name)
	}
	return id, nil
}
