package arbiter

import (
	"context"
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
	// AddStandby makes a node keep the log without a vote.
	AddStandby(context.Context, identity.NodeID) error
	// AddVoter gives a standby its vote.
	AddVoter(context.Context, identity.NodeID) error
	RemoveServer(context.Context, identity.NodeID) error
}

// WantedVoters is the size of the quorum that a mesh reaches by itself; five
// is the operator's choice.
const WantedVoters = 3

// tendElectorate moves the quorum by one step at a time: first a wrapped data
// key, then a copy of the log, then a vote; and from one voter to three in a
// pair, because a pair of voters is worse than one (design 9).
func (a *Arbiter) tendElectorate() {
	if a.electing || a.tickCount%ElectorateTicks != 0 {
		return
	}
	plan := a.planElectorate()
	if plan == nil {
		return
	}
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

// planElectorate names the next step, or nil.
func (a *Arbiter) planElectorate() func(context.Context) error {
	voters, standbys := 0, []identity.NodeID{}
	known := make(map[identity.NodeID]bool)
	for _, server := range a.config.Store.Servers() {
		known[server.ID] = true
		switch {
		case server.Voter:
			voters++
		case a.nodes[server.ID] != nil:
			standbys = append(standbys, server.ID)
		}
	}
	if voters < WantedVoters && len(standbys) >= WantedVoters-voters {
		return a.promote(standbys[:WantedVoters-voters])
	}
	if len(known) >= WantedVoters {
		return nil
	}
	if id, ok := a.candidate(known); ok {
		return a.prepareStandby(id)
	}
	return nil
}

// candidate is a connected node that may vote and does not keep the log yet.
func (a *Arbiter) candidate(known map[identity.NodeID]bool) (found identity.NodeID, ok bool) {
	a.config.Store.View(func(s *registry.State) {
		for _, n := range sortedNodes(s) {
			if n.May&registry.RoleVoter != 0 && !n.Removed && !n.Drained && !known[n.ID] && a.nodes[n.ID] != nil {
				found, ok = n.ID, true
				return
			}
		}
	})
	return found, ok
}

// prepareStandby wraps the data key to the node, has it open its Raft port,
// and adds it to the configuration without a vote.
func (a *Arbiter) prepareStandby(id identity.NodeID) func(context.Context) error {
	var wrapKey []byte
	a.config.Store.View(func(s *registry.State) { wrapKey = s.Nodes[id].WrapKey })
	wrapped, err := vault.Wrap(a.data, wrapKey, a.cluster.ID)
	voters := []identity.NodeID{id}
	for _, server := range a.config.Store.Servers() {
		voters = append(voters, server.ID)
	}
	a.nodes[id].say(&protocol.Node{Standby: &protocol.Standby{Voters: voters}})
	name := a.nodeName(id)
	return func(ctx context.Context) error {
		if err != nil {
			return err
		}
		_, proposeErr := a.config.Store.Propose(ctx, registry.Command{ID: a.commandID(), PutSecrets: &registry.PutSecrets{
			Generation: a.data.Generation(), Wraps: map[string][]byte{id.String(): wrapped},
		}})
		if proposeErr != nil {
			return proposeErr
		}
		if err := a.config.Store.AddStandby(ctx, id); err != nil {
			return err
		}
		a.config.Log.Info("node keeps a copy of the log", "node", name)
		return nil
	}
}

// promote gives standbys their votes back to back, once each has the log.
func (a *Arbiter) promote(ids []identity.NodeID) func(context.Context) error {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = a.nodeName(id)
	}
	return func(ctx context.Context) error {
		for _, id := range ids {
			if err := a.config.Store.AddVoter(ctx, id); err != nil {
				return err
			}
		}
		a.config.Log.Info("quorum grew", "new_voters", names)
		return nil
	}
}

// Pace of the electorate.
const (
	ElectorateTicks = 10 // twice a second
	ElectWithin     = 10 * time.Second
)
