package node

import (
	"context"
	"fmt"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/descriptors"
)

// keepDescriptors looks whether this process can open what it needs. A node that cannot would
// keep the lead by connections that are open, while others reach no arbiter: it gives the
// lead up to a voter that can, and does not stand for it.
func (n *Node) keepDescriptors(ctx context.Context) {
	ticker := time.NewTicker(descriptors.LookEvery)
	defer ticker.Stop()
	for {
		n.heedLack(ctx, descriptors.Words(n.lacks(bootTime()), Descriptors))
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (n *Node) heedLack(ctx context.Context, says string) {
	switch was := n.lackSays(); {
	case says != "" && was == "":
		n.config.Log.Error("this node can open no more connections: it turns clients away, and leaves the lead to others", "because", says)
	case says == "" && was != "":
		n.config.Log.Info("this node can open connections again")
	}
	n.lack.Store(&says)
	store := n.store.Load()
	if store == nil {
		return
	}
	store.Refrain(says != "")
	if other, any := n.fitVoter(); says != "" && any && n.leads() {
		n.handOver(ctx, store, other)
	}
}

// handOver gives the lead to a voter. Without success it is tried again at the next look.
func (n *Node) handOver(ctx context.Context, store *consensus.Raft, other identity.NodeID) {
	ctx, cancel := context.WithTimeout(ctx, HandOverWithin)
	defer cancel()
	if err := store.TransferLeadershipTo(ctx, other); err != nil {
		n.config.Log.Debug("the lead was not taken", "node", other.Short(), "error", err)
	}
}

// fitVoter is a voter that could lead, as far as it says itself: who has nobody better keeps the
// lead, with what is set aside for nodes.
func (n *Node) fitVoter() (id identity.NodeID, any bool) {
	for _, row := range n.members.all() {
		well := row.Up && row.Lack == "" && row.Disk == "" && row.Clock == 0
		if row.Voter && well && row.ID != n.trust.Key.ID() && n.replicas.answers(row.ID) {
			return row.ID, true
		}
	}
	return id, false
}

// lackSays is why this process can open nothing more, at the last look.
func (n *Node) lackSays() string {
	if says := n.lack.Load(); says != nil {
		return *says
	}
	return ""
}

// lackingNodes are the sentences of a status about nodes that can open no more connections.
func (n *Node) lackingNodes(heard bool) (all []string) {
	const meanwhile = "; it turns clients away until then, and another voter leads"
	if says := n.lackSays(); says != "" {
		all = append(all, says+meanwhile)
	}
	for _, row := range n.members.all() {
		if heard && row.Lack != "" && row.ID != n.trust.Key.ID() {
			all = append(all, "on "+row.Name+" "+row.Lack+meanwhile)
		}
	}
	return all
}

// fullTable says that new flows, those of other nodes to this one among them, are dropped by
// this host's kernel, or soon will be.
func fullTable(flows, most int) (all []string) {
	if most == 0 || flows < most/100*95 {
		return nil
	}
	return []string{fmt.Sprintf("this host's kernel follows %d flows and may %d, beyond which it drops new ones: "+
		"sysctl -w net.netfilter.nf_conntrack_max=%d, or look who opens so many (conntrack -L)", flows, most, 2*most)}
}
