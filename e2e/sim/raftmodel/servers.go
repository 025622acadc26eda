package raftmodel

import (
	"context"
	"fmt"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// change is one of the servers, that waits until the one before is committed.
type change struct {
	alter func([]consensus.Server) []consensus.Server
	done  func(registry.Result, error)
}

// alter begins the next change when the configuration stands, in this term.
func (r *Replica) alter() {
	queued := slices.ContainsFunc(r.reign.queue, func(p proposal) bool { return p.entry.kind == servers })
	if r.role != leader || len(r.reign.changes) == 0 || queued ||
		r.serversAt > r.commit || r.commit < r.reign.began {
		return
	}
	c := r.reign.changes[0]
	r.reign.changes = r.reign.changes[1:]
	now := c.alter(slices.Clone(r.servers))
	r.enqueue(proposal{entry: entry{kind: servers, servers: now}, done: c.done})
}

// change asks for another configuration, and waits.
func (r *Replica) change(ctx context.Context, what string, id identity.NodeID, alter func([]consensus.Server) []consensus.Server) error {
	wait := r.begin(ctx, func(done func(registry.Result, error)) {
		if r.ended || r.role != leader || r.reign.hands != nil {
			r.propose(proposal{done: done}) // says why not
			return
		}
		r.reign.changes = append(r.reign.changes, change{alter, done})
		r.alter()
	})
	if _, err := wait(); err != nil {
		return fmt.Errorf("raftmodel: %s %s: %w", what, id.Short(), err)
	}
	return nil
}

// with is a configuration in which a server has a vote or none.
func with(list []consensus.Server, id identity.NodeID, voter bool) []consensus.Server {
	if i := slices.IndexFunc(list, func(s consensus.Server) bool { return s.ID == id }); i >= 0 {
		list[i].Voter = voter
		return list
	}
	return append(list, consensus.Server{ID: id, Voter: voter})
}

// AddStandby adds a server that keeps the log without a vote; a voter stays one.
func (r *Replica) AddStandby(ctx context.Context, id identity.NodeID) error {
	return r.change(ctx, "add standby", id, func(list []consensus.Server) []consensus.Server {
		if slices.ContainsFunc(list, func(s consensus.Server) bool { return s.ID == id }) {
			return list
		}
		return with(list, id, false)
	})
}

// AddVoter adds a server with a vote, or gives a standby its vote.
func (r *Replica) AddVoter(ctx context.Context, id identity.NodeID) error {
	return r.change(ctx, "add voter", id, func(list []consensus.Server) []consensus.Server {
		return with(list, id, true)
	})
}

// Demote takes a server's vote; it keeps the log.
func (r *Replica) Demote(ctx context.Context, id identity.NodeID) error {
	return r.change(ctx, "demote", id, func(list []consensus.Server) []consensus.Server {
		return with(list, id, false)
	})
}

// RemoveServer takes a server out of the configuration.
func (r *Replica) RemoveServer(ctx context.Context, id identity.NodeID) error {
	return r.change(ctx, "remove", id, func(list []consensus.Server) []consensus.Server {
		return slices.DeleteFunc(list, func(s consensus.Server) bool { return s.ID == id })
	})
}

// Servers is the newest configuration this replica knows.
func (r *Replica) Servers() (list []consensus.Server) {
	r.cluster.turn(func() { list = slices.Clone(r.servers) })
	return list
}

// TransferLeadership hands the lead to the most current other voter.
func (r *Replica) TransferLeadership(ctx context.Context) error {
	return r.handOver(ctx, nobody)
}

// TransferLeadershipTo hands it to a certain voter.
func (r *Replica) TransferLeadershipTo(ctx context.Context, id identity.NodeID) error {
	return r.handOver(ctx, r.cluster.numbers[id])
}

func (r *Replica) handOver(ctx context.Context, to int) error {
	wait := r.begin(ctx, func(done func(registry.Result, error)) {
		r.transfer(to, func(err error) { done(registry.Result{}, err) })
	})
	_, err := wait()
	return err
}
