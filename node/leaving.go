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
			return control.Nothing{}, notLeft(n.remaining(r.Context()), last)
		case <-n.gone:
		case <-ticker.C:
		}
	}
	return control.Nothing{}, nil
}

// remaining is how many slices there are here still; 0 where that is not known.
func (n *Node) remaining(ctx context.Context) int {
	ctx, cancel := context.WithTimeout(ctx, WorkLook)
	defer cancel()
	report, _ := n.agent.Report(ctx)
	return report.Slices
}

// notLeft says how far it is with leaving when nobody waits any longer. The arbiter goes
// on, unless it could not be asked last.
func notLeft(slices int, last error) error {
	if slices > 0 && last == nil {
		return control.Errorf(control.CodeDegraded,
			"run meshcrypt leave again to wait on, or meshcrypt undrain to stay",
			"this node is leaving still: %d slices on it are moved one after the other, as their clients come for others", slices)
	}
	return control.Errorf(control.CodeDegraded,
		"run meshcrypt leave again, or: meshcrypt undrain; meshcrypt status tells what the mesh lacks",
		"this node has not left: the arbiter did not confirm%s", because(last))
}

func because(err error) string {
	if err == nil {
		return ""
	}
	return " (" + err.Error() + ")"
}

// ending is what takes from a host what a stopped daemon leaves, so that nothing of
// clients leaves in clear until it runs again: it will not.
func ending(userspace bool) string {
	if userspace {
		return ""
	}
	return ", and open the host: " + openHost
}

// openHost is what opens a host that a daemon has left closed.
const openHost = "ip route flush proto 109; ip -6 route flush proto 109; nft delete table inet meshcrypt_fence"

// abdicate passes the lead on, if this node has it, once there is another
// voter. It reports whether this node leads still, and refuses when there is
// nobody to follow it.
func (n *Node) abdicate(ctx context.Context) (leads bool, err error) {
	store, a := n.store.Load(), n.arbiter.Load()
	if store == nil || a == nil {
		return false, nil
	}
	own := n.trust.Key.ID()
	if len(votersBeside(store, own)) > 0 {
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
				"to end the mesh, stop the daemon, remove "+n.dir.Path("")+ending(n.self.Userspace),
			"this is the last node that may vote: without it the mesh has no arbiter")
	}
	_ = a.Leaving(ctx, own) // the electorate gives the vote to the heir
	return true, nil
}

// drainAndWait drains a node, this one unless named, and waits until nothing
// is left on it; or gives it work again.
func (n *Node) drainAndWait(r *http.Request, in control.DrainRequest) (control.Nothing, error) {
	ctx, cancel := context.WithTimeout(r.Context(), WorkMoves)
	defer cancel()
	own := n.members.find(n.trust.Key.ID()).Name
	holds := func() (bool, error) { return n.drainOwn(ctx, !in.Undo) }
	if in.Node != "" && in.Node != own {
		holds = func() (bool, error) { return n.drainOther(r.WithContext(ctx), in) }
	}
	ticker := time.NewTicker(WorkLook)
	defer ticker.Stop()
	for {
		still, err := holds()
		if err != nil || in.Undo || !still {
			return control.Nothing{}, err
		}
		select {
		case <-ctx.Done():
			return control.Nothing{}, control.Errorf(control.CodeDegraded,
				"run the same command again; meshcrypt members tells what it carries",
				"the node is drained but still carries work: thousands of sessions are moved one after the other; one stays whose client is away, or that no other node takes")
		case <-ticker.C:
		}
	}
}

// drainOwn asks for this node itself, which needs no vote. What is left is what
// is really here, down to the last old epoch.
func (n *Node) drainOwn(ctx context.Context, on bool) (holds bool, err error) {
	if err := n.agent.Drain(ctx, on); err != nil {
		return true, control.Errorf(control.CodeDegraded, "meshcrypt status", "the arbiter was not asked: %v", err)
	}
	report, ok := n.agent.Report(ctx)
	return !ok || report.Slices > 0 || len(report.Parts) > 0, nil
}

// drainOther asks for another node, in an operator's name.
func (n *Node) drainOther(r *http.Request, in control.DrainRequest) (holds bool, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return true, err
	}
	answer, err := n.orPassOn(control.OpDrain, n.arbiterOperations()[control.OpDrain])(r, control.CallerLocal, body)
	if err != nil {
		return true, err
	}
	raw, passedOn := answer.(json.RawMessage)
	if !passedOn {
		if raw, err = json.Marshal(answer); err != nil {
			return true, err
		}
	}
	var left control.Drained
	return left.Holds, json.Unmarshal(raw, &left)
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
