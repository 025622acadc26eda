package node

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/control"
	"github.com/meshcrypt/meshcrypt/node/datadir"
)

// refusalsOf is all that a registry denies.
func refusalsOf(s *registry.State) (all control.Refusals) {
	for name, c := range s.Clients.All() {
		if c.Revoked {
			all.Clients = append(all.Clients, name)
		}
	}
	for name, a := range s.Authorities {
		if a.Revoked {
			all.Authorities = append(all.Authorities, name)
		}
	}
	for _, cert := range s.Certificates.All() {
		if cert.Revoked {
			all.Certificates = append(all.Certificates, *cert)
		}
	}
	for id, row := range s.Nodes {
		if row.Removed {
			all.Nodes = append(all.Nodes, id)
		}
	}
	return all
}

// keepRefusals has the arbiter refuse whom this voter's log refuses while that holds
// committed changes that the arbiter's lacks: what else was lost waits for an operator,
// and somebody who was shut out must not. It is done once for what the log holds: who is
// let in again after that stays so. The same is told of a log that was given up when the mesh
// was recovered without this node: on its host nobody knew of what was refused since.
func (n *Node) keepRefusals(ctx context.Context) {
	store := n.awaitStore(ctx)
	if store == nil {
		return
	}
	ticker := time.NewTicker(RefuseEvery)
	defer ticker.Stop()
	for told := false; ; { // a log that keeps something does not go on, so once is enough
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := n.tellFormer(ctx, store)
		if keeps := errors.Is(store.Disk(), consensus.ErrFork); !keeps || told {
			told = keeps
		} else {
			err = errors.Join(err, n.tellRefusals(ctx, store))
			told = err == nil
		}
		ticker.Reset(refuseAgain(err))
		if err != nil {
			n.config.Log.Debug("the arbiter was not told whom this log refuses; tried again", "error", err)
		}
	}
}

// refuseAgain is when the arbiter is told what it did not take. Of a list that is full each
// try is an entry of its log.
func refuseAgain(err error) time.Duration {
	if errors.Is(err, errNoRoom) {
		return RoomEvery
	}
	return RefuseEvery
}

// tellFormer tells whom the log from before a recovery refuses, until an arbiter takes it.
func (n *Node) tellFormer(ctx context.Context, store *consensus.Raft) error {
	former := store.Former()
	if former == nil {
		return nil
	}
	err := n.tellRefusalsOf(ctx, former)
	if err == nil {
		store.ForgetFormer()
	}
	return err
}

// tellRefusals does nothing if it was done.
func (n *Node) tellRefusals(ctx context.Context, store *consensus.Raft) error {
	state, err := store.Kept()
	if err != nil {
		return err
	}
	return n.tellRefusalsOf(ctx, state)
}

func (n *Node) tellRefusalsOf(ctx context.Context, state *registry.State) error {
	return n.tellOnce(state, func(some control.Refusals) error {
		arbiter, err := n.atArbiter()
		if err != nil {
			return err
		}
		within, cancel := context.WithTimeout(ctx, OperatorWait)
		defer cancel()
		return arbiter.Call(within, control.OpRefuse, some, nil)
	})
}

// errNoRoom is what is left of a report where the arbiter's list of certificates is full.
var errNoRoom = errors.New("the arbiter has no room for certificates that this log refuses")

// tellOnce tells what was not told of a log yet. All but certificates is told once also where
// there is no room for those: who is let in again after that must stay so.
func (n *Node) tellOnce(state *registry.State, tell func(control.Refusals) error) error {
	all, holds := refusalsOf(state), datadir.Told{Term: state.Term, Index: state.Index}
	waits := holds
	waits.Waits = true
	switch was, err := n.dir.Told(state.Term, state.Index); {
	case err != nil: // the file is damaged: they are refused once more, better than not at all
	case was == holds:
		return nil
	case was == waits:
		all = control.Refusals{Certificates: all.Certificates}
	}
	left, err := eachPiece(all, tell)
	switch {
	case err == nil && len(pieces(all)) == 0: // nobody is refused, so there is nothing to say either
		return n.dir.SaveTold(holds)
	case err == nil:
		n.config.Log.Warn("this node's log holds or held changes that the arbiter's lacks: the arbiter refuses now whom it refuses", "clients", len(all.Clients),
			"authorities", len(all.Authorities), "certificates", len(all.Certificates), "nodes", len(all.Nodes))
		return n.dir.SaveTold(holds)
	case control.CodeOf(err) == control.CodeFailed && !slices.ContainsFunc(left, func(r control.Refusals) bool { return len(r.Certificates) == 0 }):
		return errors.Join(errNoRoom, err, n.dir.SaveTold(waits))
	}
	return err
}

// eachPiece tells all of them, and gives what is left: one that an arbiter does not take keeps
// no other from being.
func eachPiece(all control.Refusals, tell func(control.Refusals) error) (left []control.Refusals, failed error) {
	some := pieces(all)
	for i, one := range some {
		switch err := tell(one); {
		case err == nil:
		case control.CodeOf(err) == control.CodeFailed:
			left, failed = append(left, one), err
		default: // there is none to take the next
			return append(left, some[i:]...), err
		}
	}
	return left, failed
}

// pieces are what one request takes. Certificates come last: there may be no room for them.
func pieces(all control.Refusals) (some []control.Refusals) {
	for names := range slices.Chunk(all.Clients, MaxRefusals) {
		some = append(some, control.Refusals{Clients: names})
	}
	for names := range slices.Chunk(all.Authorities, MaxRefusals) {
		some = append(some, control.Refusals{Authorities: names})
	}
	for ids := range slices.Chunk(all.Nodes, MaxRefusals) {
		some = append(some, control.Refusals{Nodes: ids})
	}
	for certs := range slices.Chunk(all.Certificates, MaxRefusals) {
		some = append(some, control.Refusals{Certificates: certs})
	}
	return some
}

// refuse is the arbiter's part: it commits of it what its registry does not refuse yet.
func (n *Node) refuse(r *http.Request, in control.Refusals) (control.Nothing, error) {
	if len(in.Clients)+len(in.Authorities)+len(in.Certificates)+len(in.Nodes) > MaxRefusals {
		return control.Nothing{}, control.Errorf(control.CodeUsage, "", "more than %d refusals at a time", MaxRefusals)
	}
	var lacking []registry.Command
	if err := n.view(func(s *registry.State) { lacking = lackingRefusals(s, in, n.trust.Key.ID()) }); err != nil {
		return control.Nothing{}, err
	}
	for _, command := range lacking {
		var err error
		if put := command.PutCertificate; put != nil {
			err = n.putCertificate(r, put.Certificate)
		} else {
			_, err = n.propose(r.Context(), command)
		}
		if err != nil {
			return control.Nothing{}, err
		}
	}
	if len(lacking) > 0 {
		n.config.Log.Warn("refused is now also who was by changes that this log lacks and a voter holds", "refusals", len(lacking))
	}
	return control.Nothing{}, nil
}

// lackingRefusals are the commands for what a state does not refuse. Whom it does not know
// it lets in by nothing; a certificate counts by itself. A log that was given up may have
// removed the very node by which the mesh was recovered, which is not to remove itself.
func lackingRefusals(s *registry.State, in control.Refusals, own identity.NodeID) (all []registry.Command) {
	for _, name := range in.Clients {
		if c := s.Clients.Get(name); c != nil && !c.Revoked {
			all = append(all, registry.Command{RevokeClient: &registry.RevokeClient{Name: name}})
		}
	}
	for _, name := range in.Authorities {
		if a := s.Authorities[name]; a != nil && !a.Revoked {
			all = append(all, registry.Command{RevokeAuthority: &registry.RevokeAuthority{Name: name}})
		}
	}
	for _, id := range in.Nodes {
		if row := s.Nodes[id]; row != nil && !row.Removed && id != own {
			all = append(all, registry.Command{RemoveNode: &registry.RemoveNode{ID: id}})
		}
	}
	var strange []registry.Command // which need room
	for _, cert := range in.Certificates {
		known := s.Certificates.Get(cert.ID)
		cert.Revoked = true
		put := registry.Command{PutCertificate: &registry.PutCertificate{Certificate: cert}}
		switch {
		case known == nil:
			strange = append(strange, put)
		case !known.Revoked:
			all = append(all, put)
		}
	}
	return append(all, strange...)
}
