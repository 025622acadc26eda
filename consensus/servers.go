package consensus

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// AddStandby adds a server that keeps the log without a vote.
func (r *Raft) AddStandby(ctx context.Context, id identity.NodeID) error {
	return r.change(ctx, "add standby", id, func(timeout time.Duration) raft.Future {
		return r.raft.AddNonvoter(serverID(id), serverAddress(id), 0, timeout)
	})
}

// AddVoter adds a server with a vote, or gives a standby its vote.
func (r *Raft) AddVoter(ctx context.Context, id identity.NodeID) error {
	return r.change(ctx, "add voter", id, func(timeout time.Duration) raft.Future {
		return r.raft.AddVoter(serverID(id), serverAddress(id), 0, timeout)
	})
}

// Demote takes a server's vote; it keeps the log.
func (r *Raft) Demote(ctx context.Context, id identity.NodeID) error {
	return r.change(ctx, "demote", id, func(timeout time.Duration) raft.Future {
		return r.raft.DemoteVoter(serverID(id), 0, timeout)
	})
}

// RemoveServer takes a server out of the configuration.
func (r *Raft) RemoveServer(ctx context.Context, id identity.NodeID) error {
	return r.change(ctx, "remove", id, func(timeout time.Duration) raft.Future {
		return r.raft.RemoveServer(serverID(id), 0, timeout)
	})
}

// TransferLeadership hands the lead to the most current other voter.
func (r *Raft) TransferLeadership(ctx context.Context) error {
	_, err := r.await(ctx, func(time.Duration) (any, error) { return nil, r.raft.LeadershipTransfer().Error() })
	if err != nil {
		return fmt.Errorf("consensus: transfer leadership: %w", outcome(err))
	}
	return nil
}

// TransferLeadershipTo hands the lead to a certain voter.
func (r *Raft) TransferLeadershipTo(ctx context.Context, id identity.NodeID) error {
	return r.change(ctx, "transfer leadership to", id, func(time.Duration) raft.Future {
		return r.raft.LeadershipTransferToServer(serverID(id), serverAddress(id))
	})
}

func (r *Raft) change(ctx context.Context, what string, id identity.NodeID,
	call func(time.Duration) raft.Future) error {
	_, err := r.await(ctx, func(timeout time.Duration) (any, error) { return nil, call(timeout).Error() })
	if err != nil {
		return fmt.Errorf("consensus: %s %s: %w", what, id.Short(), outcome(err))
	}
	return nil
}

// Servers is the newest configuration this replica knows.
func (r *Raft) Servers() []Server {
	future := r.raft.GetConfiguration()
	if future.Error() != nil {
		return nil
	}
	var servers []Server
	for _, s := range future.Configuration().Servers {
		if id, ok := nodeID(s.ID); ok {
			servers = append(servers, Server{ID: id, Voter: s.Suffrage == raft.Voter})
		}
	}
	return servers
}

// Snapshot writes a snapshot now. With nothing to write it is no error.
func (r *Raft) Snapshot(ctx context.Context) error {
	_, err := r.await(ctx, func(time.Duration) (any, error) { return nil, r.raft.Snapshot().Error() })
	if err != nil {
		return fmt.Errorf("consensus: snapshot: %w", err)
	}
	return nil
}

// Stats is where this replica stands.
func (r *Raft) Stats() Stats {
	commit := r.raft.CommitIndex() // before look: what a leader committed is of its term
	seen := r.look()
	s := Stats{
		Leader: seen.Leader, Term: seen.Term,
		Commit: commit, Applied: r.raft.AppliedIndex(), Last: r.raft.LastIndex(),
		Stored: r.file.entries(), Snapshot: r.file.marked().index, Denied: r.fsm.deniedAt(),
	}
	if leads := r.file.leads.Load(); seen.Leader && leads != nil && leads.term == seen.Term {
		s.By = leads.by.id
	}
	if !seen.Leader {
		s.LastContact = r.raft.LastContact()
	}
	return s
}
