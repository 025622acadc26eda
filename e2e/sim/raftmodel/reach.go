package raftmodel

import (
	"context"
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// question is one to another server, whether it is there.
type question struct {
	number uint64
	done   func(error)
}

// Reach asks another server's replica whether it is there.
func (r *Replica) Reach(ctx context.Context, server identity.NodeID) error {
	wait := r.begin(ctx, func(done func(registry.Result, error)) {
		if len(r.asked) == MaxAsked {
			oldest := r.asked[0]
			r.asked = r.asked[1:]
			r.cluster.effect(func() { oldest.done(consensus.ErrOutcomeUnknown) })
		}
		r.questions++
		r.asked = append(r.asked, question{r.questions, func(err error) { done(registry.Result{}, err) }})
		r.send(r.cluster.numbers[server], message{kind: reach, number: r.questions})
	})
	_, err := wait()
	return err
}

// takeReached is the answer.
func (r *Replica) takeReached(m message) {
	i := slices.IndexFunc(r.asked, func(q question) bool { return q.number == m.number })
	if i < 0 {
		return
	}
	done := r.asked[i].done
	r.asked = slices.Delete(r.asked, i, i+1)
	r.cluster.effect(func() { done(nil) })
}
