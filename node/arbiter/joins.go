package arbiter

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/crypto/vault"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

var errNotListed = errors.New("arbiter: the key is not a member of this mesh")

// serveJoin admits a host that proves a token's secret.
func (a *Arbiter) serveJoin(ctx context.Context, conn *tls.Conn, remote netip.AddrPort) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(HelloWithin + ProposeWithin))
	a.answerJoin(conn, func(conn *tls.Conn, m *protocol.Join) (*protocol.JoinReply, error) {
		reply, err := a.join(ctx, conn, m)
		if err != nil {
			a.config.Log.Warn("join refused", "from", remote, "error", err)
		}
		return reply, err
	})
}

// answerJoin reads one request and writes one reply or refusal.
func (a *Arbiter) answerJoin(conn *tls.Conn, do func(*tls.Conn, *protocol.Join) (*protocol.JoinReply, error)) {
	messages := protocol.NewAsked[protocol.Join](conn)
	m, err := messages.Read()
	if err != nil {
		return
	}
	answer := &protocol.Join{}
	answer.Reply, err = do(conn, m)
	if err != nil {
		var refusal *errNo
		if !errors.As(err, &refusal) {
			refusal = &errNo{Code: protocol.RefusedRetry, Reason: err.Error()}
		}
		refused := protocol.Refused(*refusal)
		answer = &protocol.Join{Refused: &refused}
	}
	_ = messages.Write(answer) // a joiner that is gone asks again
}

// join checks the proof, burns the token and registers the key in one commit,
// and only then signs a certificate.
func (a *Arbiter) join(ctx context.Context, conn *tls.Conn, m *protocol.Join) (*protocol.JoinReply, error) {
	r := m.Request
	if r == nil {
		return nil, protocol.ErrFrame
	}
	state := conn.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(pki.JoinExporterLabel, nil, pki.ExporterSize)
	if err != nil {
		return nil, err
	}
	token, err := a.tokenFor(r, exporter)
	if err != nil {
		return nil, err
	}
	if r.Userspace && a.cluster.Egress != registry.EgressMasquerade {
		return nil, no(protocol.RefusedPolicy, "this mesh routes, and a node without a TUN can only masquerade: join without --userspace, as root")
	}
	key, err := pki.ParseRequest(r.CSR)
	if err != nil {
		return nil, err
	}
	node, err := newNode(r, key, token.May)
	if err != nil {
		return nil, err
	}
	result, err := a.config.Store.Propose(ctx, registry.Command{
		ID: a.commandID(), JoinNode: &registry.JoinNode{Token: r.Token, Node: node},
	})
	switch {
	case err != nil:
		return nil, no(protocol.RefusedRetry, "the outcome is unknown (%v); run the same join again", err)
	case result.Code != "":
		return nil, no(protocol.RefusedAuth, "%s: %s (make a new one: meshcrypt token create)", result.Code, result.Detail)
	}
	a.config.Store.View(func(s *registry.State) { node.Name = s.Nodes[key.ID()].Name }) // the one it asked for may be taken
	a.config.Log.Info("node joined", "name", node.Name, "node", key.ID().Short(), "outer", node.Outer)
	return a.joinReply(r.CSR, key.ID())
}

// tokenFor checks the proof of the token's secret; wrong and unknown are one answer.
func (a *Arbiter) tokenFor(r *protocol.JoinRequest, exporter []byte) (token registry.Token, err error) {
	a.config.Store.View(func(s *registry.State) {
		if t := s.Tokens[r.Token]; t != nil {
			token = *t
		}
	})
	if len(token.Verify) == 0 || !pki.CheckProof(token.Verify, exporter, r.CSR, r.Proof) {
		return token, no(protocol.RefusedAuth, "the join token is not valid (make a new one: meshcrypt token create)")
	}
	return token, nil
}

// newNode is the registry's row for a joiner: it may be what its token says,
// or less if it asks for less.
func newNode(r *protocol.JoinRequest, key identity.PublicKey, may registry.Roles) (registry.Node, error) {
	if len(r.Roles) > 0 {
		wanted, err := registry.ParseRoles(r.Roles)
		if err != nil || wanted&^may != 0 {
			return registry.Node{}, no(protocol.RefusedPolicy, "the token allows the roles %v only", may.Names())
		}
		may = wanted
	}
	if err := vault.CheckPublic(r.WrapKey); err != nil {
		return registry.Node{}, err // nobody could wrap the data key to it
	}
	return registry.Node{
		ID: key.ID(), Key: key, WrapKey: r.WrapKey, Name: r.Name, May: may,
		Outer: r.Outer, Other: r.Other, Inside: r.Inside, Capacity: r.Capacity, Mbit: r.Mbit,
	}, nil
}

func (a *Arbiter) joinReply(csr []byte, id identity.NodeID) (*protocol.JoinReply, error) {
	reply := &protocol.JoinReply{CA: a.cluster.CA, Cluster: a.cluster.ID, GossipKey: a.gossipKey, Pool: a.cluster.Pool,
		Egress: a.cluster.Egress}
	var roles []string
	voters := a.voters()
	a.config.Store.View(func(s *registry.State) {
		n := s.Nodes[id]
		reply.Index, roles = n.Index, n.May.Names()
		for _, other := range sortedNodes(s) {
			if !other.Removed {
				reply.Nodes = append(reply.Nodes, protocol.NodeRow{
					ID: other.ID, Key: other.Key, Name: other.Name, Index: other.Index, Outer: other.Outer, Other: other.Other,
					Inside: other.Inside, May: other.May, Is: other.Is, Voter: voters[other.ID],
				})
			}
		}
	})
	var err error
	reply.Certificate, err = a.authority.IssueNode(csr, roles, a.config.Wall())
	return reply, err
}

// renew answers with a fresh certificate for the key of this connection. Who leads no
// more may not know that the key was removed, so the barrier comes first.
func (a *Arbiter) renew(ctx context.Context, conn *tls.Conn, m *protocol.Join) (*protocol.JoinReply, error) {
	if m.Renew == nil {
		return nil, protocol.ErrFrame
	}
	if err := a.config.Store.Barrier(ctx); err != nil {
		return nil, no(protocol.RefusedRetry, "this node leads no more (%v)", err)
	}
	key, err := pki.ParseRequest(m.Renew.CSR)
	if err != nil {
		return nil, err
	}
	peer, err := pki.VerifyNodeKey(rawCerts(conn), a.cluster.CA, a.cluster.ID)
	if err != nil || peer.Key != key || !a.listed(peer.Node) {
		return nil, no(protocol.RefusedAuth, "this key is not a member of the mesh any more")
	}
	return a.joinReply(m.Renew.CSR, peer.Node)
}
