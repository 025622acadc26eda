package arbiter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// Why a server is not taken out of the Raft configuration.
var (
	ErrNoServer  = errors.New("it does not keep the log")
	ErrLastVoter = errors.New("it is the last voter")
	ErrIsArbiter = errors.New("it is the arbiter")
	ErrNoQuorum  = errors.New("the voters that are left would have no quorum")
)

// errElecting asks to try again: another change is under way.
var errElecting = errors.New("the quorum is being changed")

// Expel takes a server out of the Raft configuration at an operator's word. It
// is not asked to vote again before it opens another stream; who takes its place
// is the electorate's to find.
func (a *Arbiter) Expel(ctx context.Context, id identity.NodeID) error {
	ticker := time.NewTicker(TickEvery)
	defer ticker.Stop()
	for {
		// Two answers: the question's, and the change's.
		answers := make(chan error, 2)
		if err := a.ask(ctx, func() { a.expel(id, answers) }); err != nil {
			return err
		}
		err := error(ErrOver)
		select {
		case err = <-answers:
		case <-ctx.Done():
			err = ctx.Err()
		case <-a.over:
		}
		if !errors.Is(err, errElecting) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), errElecting)
		case <-ticker.C:
		}
	}
}

// expel is Expel in the loop.
func (a *Arbiter) expel(id identity.NodeID, answers chan<- error) {
	if a.electing {
		answers <- errElecting
		return
	}
	if err := a.mayExpel(id); err != nil {
		answers <- err
		return
	}
	a.expelled[id] = true
	remove := a.removeServer(id)
	a.elect(func(ctx context.Context) error {
		err := remove(ctx)
		answers <- err
		return err
	})
}

// mayExpel says why a server must stay: the arbiter cannot take its own vote and
// go on, and those that are left must be able to decide.
func (a *Arbiter) mayExpel(id identity.NodeID) error {
	own := a.config.Trust.Key.ID()
	var found *consensus.Server
	left, heard := 0, 0
	for _, server := range a.config.Store.Servers() {
		switch {
		case server.ID == id:
			found = &server
		case server.Voter:
			left++
			if server.ID == own || a.nodes[server.ID] != nil && a.config.Answers(server.ID) {
				heard++
			}
		}
	}
	switch {
	case found == nil:
		return ErrNoServer
	case !found.Voter:
		return nil
	case left == 0:
		return ErrLastVoter
	case id == own:
		return ErrIsArbiter
	case 2*heard <= left:
		return fmt.Errorf("%w: of %d only %d are heard", ErrNoQuorum, left, heard)
	}
	return nil
}
