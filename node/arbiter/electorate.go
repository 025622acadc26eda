package arbiter

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// Electorate is who keeps the log and who votes.
type Electorate interface {
	Servers() []consensus.Server
	// Stats is where this node's own copy of the log stands.
	Stats() consensus.Stats
	// Reach asks a server's replica whether it is there.
	Reach(context.Context, identity.NodeID) error
	// AddStandby makes a node keep the log without a vote.
	AddStandby(context.Context, identity.NodeID) error
	// AddVoter gives a standby its vote.
	AddVoter(context.Context, identity.NodeID) error
	Demote(context.Context, identity.NodeID) error
	RemoveServer(context.Context, identity.NodeID) error
}

// WantedVoters is the size of the quorum that a mesh reaches by itself; five
// is the operator's choice.
const WantedVoters = 3

// tendElectorate moves the quorum by one step at a time: first a copy of
// the log, then the wrapped data key, then a vote; and from one voter to three in a
// pair, because a pair of voters is worse than one (design 9).
func (a *Arbiter) tendElectorate() {
	if a.electing {
		return
	}
	if plan := a.planElectorate(); plan != nil {
		a.elect(plan)
	}
}

// elect carries a plan out beside the loop.
func (a *Arbiter) elect(plan func(context.Context) error) {
	a.electing = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), ElectWithin)
		defer cancel()
		a.must(ctx, elected{plan(ctx)})
	}()
}

type elected struct{ err error }

func (e elected) apply(a *Arbiter) {
	a.electing = false
	if e.err != nil {
		a.config.Log.Warn("quorum not changed", "error", e.err)
		return
	}
	a.pushViews()
}

// countVoters has the registry know how many nodes vote: the headless time
// depends on it. The Raft configuration is the truth.
func (a *Arbiter) countVoters() {
	voters, counted := 0, 0
	for _, server := range a.config.Store.Servers() {
		if server.Voter {
			voters++
		}
	}
	a.config.Store.View(func(s *registry.State) { counted = s.Voters })
	voters = min(voters, registry.MaxVoters)
	if a.counting || voters == 0 || voters == counted {
		return
	}
	a.counting = true
	a.submit(proposal{
		command: registry.Command{ID: a.commandID(), CountVoters: &registry.CountVoters{Voters: voters}},
		done:    func(registry.Result, error) { a.counting = false },
	})
}

// planElectorate names the next step, or nil. Whoever left is kept from the
// secrets first. A voter that goes is replaced
// first and removed then. Without anybody to take its place, one that leaves
// goes all the same and one that is silent stays; two that are left become one.
func (a *Arbiter) planElectorate() func(context.Context) error {
	if plan := a.planRenewal(); plan != nil {
		return plan
	}
	a.lookAtReplicas()
	if plan := a.planLost(); plan != nil {
		return plan
	}
	e := a.judgeElectorate()
	// Who takes a place comes before the next one goes: with one candidate, one goes.
	if e.good >= WantedVoters || len(e.known)-len(e.bad) >= WantedVoters || !a.hasCandidate(e.known) {
		if len(e.useless) > 0 {
			a.passOver(e.useless[0])
			return a.removeServer(e.useless[0])
		}
	}
	if e.good < WantedVoters {
		if promoted := e.promotable(a.miss); promoted != nil {
			return a.promote(promoted)
		}
		if len(e.known)-len(e.bad) < WantedVoters {
			if id, ok := a.candidate(e.known); ok && !a.overdue() {
				return a.prepareStandby(id)
			}
		}
	}
	own := a.config.Trust.Key.ID()
	if len(e.bad) > 0 && e.bad[0] != own {
		_, leaving := a.leavers[e.bad[0]]
		leaving = leaving || !a.listed(e.bad[0])
		if e.good >= WantedVoters || leaving && (a.leavers[e.bad[0]] == nil || a.readyToLeave(e.bad[0])) {
			return a.removeServer(e.bad[0])
		}
	}
	if e.voters == 2 && e.good == 2 && len(e.standbys)+len(e.waiting) == 0 {
		return a.demoteOther(own)
	}
	return nil
}

// planLost is for who came back without its log. A voter has forgotten what it voted for
// and what it took: its vote goes, and it is asked anew like any other node. A standby
// needs no more than to be asked again.
func (a *Arbiter) planLost() func(context.Context) error {
	for _, server := range a.config.Store.Servers() {
		n := a.nodes[server.ID]
		if n == nil || n.hello.Standby || n.keeps || server.ID == a.config.Trust.Key.ID() {
			continue
		}
		if server.Voter {
			a.config.Log.Warn("a voter has lost its log, so it gets another one and its vote anew", "node", a.nodeName(server.ID))
			return a.removeServer(server.ID)
		}
		a.askToKeep(n)
	}
	return nil
}

// promotable is the standbys to be given a vote now: as many as are lacking, but
// a sole voter that stays is joined by a pair or by nobody. Two that miss each other
// get no votes together: without the third they would be no quorum.
func (e electorate) promotable(miss func(x, y identity.NodeID) bool) (chosen []identity.NodeID) {
	lacking := WantedVoters - e.good
	for _, id := range e.standbys {
		apart := slices.ContainsFunc(chosen, func(other identity.NodeID) bool { return miss(id, other) })
		if len(chosen) < lacking && !apart {
			chosen = append(chosen, id)
		}
	}
	if pair := e.voters == 1 && e.good == 1; pair && len(chosen) < lacking {
		return nil
	}
	return chosen
}

// removeServer takes a server out of the configuration.
func (a *Arbiter) removeServer(id identity.NodeID) func(context.Context) error {
	name := a.nodeName(id)
	return func(ctx context.Context) error {
		if err := a.config.Store.RemoveServer(ctx, id); err != nil {
			return err
		}
		a.config.Log.Info("node keeps the log no more", "node", name)
		return nil
	}
}

// demoteOther takes the vote of the other one of two voters: two are worse than
// one, for each of them can stop the mesh.
func (a *Arbiter) demoteOther(own identity.NodeID) func(context.Context) error {
	for _, server := range a.config.Store.Servers() {
		if server.Voter && server.ID != own && a.nodes[server.ID] != nil {
			id, name := server.ID, a.nodeName(server.ID)
			return func(ctx context.Context) error {
				if err := a.config.Store.Demote(ctx, id); err != nil {
					return err
				}
				a.config.Log.Info("quorum shrank to one voter; the other keeps the log", "standby", name)
				return nil
			}
		}
	}
	return nil
}

// hasCandidate says that somebody could be asked who was not passed over.
func (a *Arbiter) hasCandidate(known map[identity.NodeID]bool) bool {
	_, ok := a.candidate(known)
	return ok
}

// candidate is a connected node that may vote and does not keep the log yet.
func (a *Arbiter) candidate(known map[identity.NodeID]bool) (found identity.NodeID, ok bool) {
	a.config.Store.View(func(s *registry.State) {
		for _, n := range sortedNodes(s) {
			if a.eligible(n) && !known[n.ID] && !a.passedOver(n.ID) {
				found, ok = n.ID, true
				return
			}
		}
	})
	return found, ok
}

// eligible says that a node could be given a vote now.
func (a *Arbiter) eligible(n *registry.Node) bool {
	_, leaving := a.leavers[n.ID]
	return n.May&registry.RoleVoter != 0 && !n.Removed && !n.Drained && !leaving && !a.expelled[n.ID] && a.nodes[n.ID] != nil &&
		!a.tooOld(n.ID)
}

// prepareStandby has the node open its Raft port, and adds it to the configuration
// without a vote, whether that answers or not: what is copied to it shows whether it
// does.
func (a *Arbiter) prepareStandby(id identity.NodeID) func(context.Context) error {
	a.askToKeep(a.nodes[id])
	name := a.nodeName(id)
	return func(ctx context.Context) error {
		if err := a.config.Store.AddStandby(ctx, id); err != nil {
			return err
		}
		a.config.Log.Info("node keeps a copy of the log", "node", name)
		return nil
	}
}

// askToKeep has a node open its Raft port for those who keep the log.
func (a *Arbiter) askToKeep(n *nodeStream) {
	n.keeps = true
	voters := []identity.NodeID{n.node}
	for _, server := range a.config.Store.Servers() {
		voters = append(voters, server.ID)
	}
	n.Say(&protocol.Node{Standby: &protocol.Standby{Voters: voters}})
}

// promote gives standbys their votes back to back. Each was found fit, and is
// asked once more before the first vote is given: nothing but its answer shows
// that the quorum to come can be reached. Only then is the data key wrapped to them,
// for a key that was handed to a node that never votes has to be renewed; and before
// the vote, for a voter that cannot open the secrets could lead nothing.
func (a *Arbiter) promote(ids []identity.NodeID) func(context.Context) error {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = a.nodeName(id)
	}
	handOver, err := a.wrapTo(ids)
	return func(ctx context.Context) error {
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := a.config.Store.Reach(ctx, id); err != nil {
				return err
			}
		}
		result, err := a.config.Store.Propose(ctx, handOver)
		if err := cmp.Or(err, result.Err()); err != nil {
			return err
		}
		for _, id := range ids {
			if err := a.config.Store.AddVoter(ctx, id); err != nil {
				return err
			}
		}
		a.config.Log.Info("quorum grew", "new_voters", names)
		return nil
	}
}

// wrapTo is the command that gives nodes the present data key.
func (a *Arbiter) wrapTo(ids []identity.NodeID) (registry.Command, error) {
	put := &registry.PutSecrets{Generation: a.data.Generation(), Wraps: make(map[string][]byte, len(ids))}
	var err error
	a.config.Store.View(func(s *registry.State) {
		for _, id := range ids {
			wrapped, wrapErr := vault.Wrap(a.data, s.Nodes[id].WrapKey, a.cluster.ID)
			put.Wraps[id.String()], err = wrapped, cmp.Or(err, wrapErr)
		}
	})
	return registry.Command{ID: a.commandID(), PutSecrets: put}, err
}

// Pace of the electorate.
const (
	ElectorateTicks = 10 // twice a second
	ElectWithin     = 10 * time.Second
)
