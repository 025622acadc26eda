package consensus

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Reach asks another server's replica whether it is there, by the way that the
// log itself takes: the same port, the same proof of who asks, and the loop that
// takes entries. It changes nothing at either end, and needs no leader.
//
// The question is a pre-vote of term 0: any replica answers it, and one with a
// term of its own never grants it.
func (r *Raft) Reach(ctx context.Context, server identity.NodeID) error {
	question := &raft.RequestPreVoteRequest{RPCHeader: raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(serverID(r.id)), Addr: []byte(serverAddress(r.id)),
	}}
	_, err := r.awaitAmong(ctx, &r.reaching, func(time.Duration) (any, error) {
		var answer raft.RequestPreVoteResponse
		return nil, r.transport.RequestPreVote(serverID(server), serverAddress(server), question, &answer)
	})
	if err != nil {
		return fmt.Errorf("consensus: reach %s: %w", server.Short(), err)
	}
	return nil
}
