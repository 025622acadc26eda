package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/arbiter"
	"github.com/meshcrypt/meshcrypt/node/control"
)

const (
	listPeers     = "meshcrypt operator raft list-peers"
	anotherVoter  = "let a host join that may vote (meshcrypt token create --roles voter,gateway,agent)"
	transferFirst = "meshcrypt operator raft transfer-leader; then run the same command again"
)

// raftPeers is the Raft configuration.
func (n *Node) raftPeers(r *http.Request, _ control.Nothing) (out control.RaftPeers, err error) {
	store := n.store.Load()
	if store == nil {
		return out, consensus.ErrNotLeader
	}
	report, unknown := n.report(r.Context()) // listed all the same, for who asks why nobody serves
	stats := store.Stats()
	leader, _ := store.Leader()
	out = control.RaftPeers{Schema: "meshcrypt.raft-peers/v1", Term: stats.Term, Index: stats.Commit}
	for _, server := range store.Servers() {
		_, heard := report.Load[server.ID]
		out.Peers = append(out.Peers, control.RaftPeer{
			Name: n.members.find(server.ID).Name, ID: server.ID, Leader: server.ID == leader, Voter: server.Voter,
			Silent: unknown == nil && !heard && server.ID != leader, Unfit: report.Unfit[server.ID],
		})
	}
	return out, nil
}

// twoHosts is what the arbiter, if this node is it, has to say of nodes whose keys two
// hosts have.
func (n *Node) twoHosts(ctx context.Context) (all []string) {
	a := n.arbiter.Load()
	if a == nil {
		return nil
	}
	report, err := a.Report(ctx)
	if err != nil {
		return nil // its term is over
	}
	if report.Missed != "" {
		all = append(all, report.Missed)
	}
	for id, at := range report.Copied {
		all = append(all, fmt.Sprintf("two hosts use the key of %s, as after a machine or a data directory was copied; "+
			"the older process, at %s by its own word, carries nothing: run meshcrypt status there", n.members.find(id).Name, at))
	}
	slices.Sort(all)
	return all
}

// unfitReplicas is what the arbiter, if this node is it, has to say of nodes that
// could not take over.
func (n *Node) unfitReplicas(ctx context.Context) (all []string) {
	a := n.arbiter.Load()
	if a == nil {
		return nil
	}
	report, err := a.Report(ctx)
	if err != nil {
		return nil // its term is over
	}
	voters := make(map[identity.NodeID]bool)
	for _, server := range n.store.Load().Servers() {
		voters[server.ID] = server.Voter
	}
	for id, why := range report.Unfit {
		if voters[id] {
			all = append(all, "a voter could not take over: "+why)
		} else {
			all = append(all, "a node gets no vote: "+why)
		}
	}
	slices.Sort(all)
	return all
}

// findPeer resolves a name, or the first characters of an id, among those that
// keep the log.
func (n *Node) findPeer(r *http.Request, name string) (control.RaftPeer, error) {
	peers, err := n.raftPeers(r, control.Nothing{})
	if err != nil {
		return control.RaftPeer{}, err
	}
	var found []control.RaftPeer
	for _, p := range peers.Peers {
		if p.Name == name {
			return p, nil
		}
		if name != "" && strings.HasPrefix(p.ID.String(), name) {
			found = append(found, p)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return control.RaftPeer{}, control.Errorf(control.CodeFailed, listPeers, "no node called %q keeps the log", name)
	}
	return control.RaftPeer{}, control.Errorf(control.CodeUsage, listPeers, "%q stands for %d nodes", name, len(found))
}

// removePeer takes a vote, or a standby's copy of the log: of a voter that is
// lost. The electorate finds the successor.
func (n *Node) removePeer(r *http.Request, in control.NameRequest) (control.Nothing, error) {
	a, err := n.term()
	if err != nil {
		return control.Nothing{}, err
	}
	peer, err := n.findPeer(r, in.Name)
	if err != nil {
		return control.Nothing{}, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), OperatorWait)
	defer cancel()
	return control.Nothing{}, expelFailure(peer, a.Expel(ctx, peer.ID))
}

// expelFailure says what to do about it.
func expelFailure(peer control.RaftPeer, err error) error {
	if err == nil {
		return nil
	}
	for _, known := range []struct {
		is   error
		code int
		next string
	}{
		{arbiter.ErrNoServer, control.CodeFailed, listPeers},
		{arbiter.ErrLastVoter, control.CodeDenied, anotherVoter + "; then: meshcrypt leave on " + peer.Name},
		{arbiter.ErrIsArbiter, control.CodeDenied, transferFirst},
		{arbiter.ErrNoQuorum, control.CodeDenied, "remove a silent voter first (" + listPeers + " names them), or " + anotherVoter},
	} {
		if errors.Is(err, known.is) {
			return control.Errorf(known.code, known.next, "%s stays: %v", peer.Name, err)
		}
	}
	return control.Errorf(control.CodeDegraded, listPeers+"; then run the same command again", "%s was not removed: %v", peer.Name, err)
}

// transferLeadership makes another voter the arbiter: the one named, else the
// one that is furthest.
func (n *Node) transferLeadership(r *http.Request, in control.NameRequest) (control.Nothing, error) {
	store := n.store.Load()
	if store == nil {
		return control.Nothing{}, consensus.ErrNotLeader
	}
	ctx, cancel := context.WithTimeout(r.Context(), OperatorWait)
	defer cancel()
	own := n.trust.Key.ID()
	if len(votersBeside(store, own)) == 0 {
		return control.Nothing{}, control.Errorf(control.CodeDenied, anotherVoter, "nobody else votes: nobody can take the lead")
	}
	pass := store.TransferLeadership
	if in.Name != "" {
		heir, err := n.heir(r, in.Name)
		if err != nil || heir.Leader {
			return control.Nothing{}, err
		}
		pass = func(ctx context.Context) error { return store.TransferLeadershipTo(ctx, heir.ID) }
	}
	if err := pass(ctx); err != nil {
		return control.Nothing{}, control.Errorf(control.CodeDegraded, listPeers+"; then run the same command again",
			"the lead was not passed on: %v", err)
	}
	return control.Nothing{}, nil
}

// heir is a voter that could lead.
func (n *Node) heir(r *http.Request, name string) (control.RaftPeer, error) {
	peer, err := n.findPeer(r, name)
	switch {
	case err != nil:
		return peer, err
	case !peer.Voter:
		return peer, control.Errorf(control.CodeDenied, listPeers, "%s keeps the log but does not vote: it cannot lead", peer.Name)
	case peer.Silent:
		return peer, control.Errorf(control.CodeDegraded, listPeers, "%s is silent: it cannot take the lead", peer.Name)
	case peer.Unfit != "":
		return peer, control.Errorf(control.CodeDegraded, listPeers, "%s cannot take the lead: %s", peer.Name, peer.Unfit)
	}
	return peer, nil
}

// votersBeside are the voters but one.
func votersBeside(store *consensus.Raft, own identity.NodeID) (voters []identity.NodeID) {
	for _, server := range store.Servers() {
		if server.Voter && server.ID != own {
			voters = append(voters, server.ID)
		}
	}
	return voters
}
