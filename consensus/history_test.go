package consensus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestHistoriesNeverMix: a voter's disk is put back to before an election, and it goes on
// with one that was down; who leads, stops, is cut off and writes snapshots is drawn at
// random. Whatever becomes of the lead, two that do not say that they hold another history
// have the same registry.
func TestHistoriesNeverMix(t *testing.T) {
	for seed := range uint64(histories) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := &history{newCluster(t, 3, shortLogs), rand.New(rand.NewPCG(seed, 9))}
			h.goBack()
			h.settle()
			h.compare()
		})
	}
}

const histories = 4 // seeds

type history struct {
	*cluster
	random *rand.Rand
}

// goBack has two commit something, puts one of them back to before, and has it go on with
// the third; then the other returns.
func (h *history) goBack() {
	who := h.random.Perm(3)
	holder, victim, third := who[0], who[1], who[2]
	for n := range h.nodes {
		h.stop(n)
	}
	before := h.image(victim)
	h.start(holder, false)
	h.start(victim, false)
	h.proposals()
	if ran := h.random.IntN(2) == 0; ran {
		h.network.isolate(id(holder))
	} else {
		h.stop(holder)
	}
	h.stop(victim)
	h.putBack(victim, before)
	h.start(victim, false)
	h.start(third, false)
	h.proposals()
	if h.random.IntN(4) == 0 {
		h.stop(victim) // another election, of a later term
		h.start(victim, false)
		h.proposals()
	}
}

// proposals are some changes, and perhaps a snapshot behind them.
func (h *history) proposals() {
	for n := 1 + h.random.IntN(8); n > 0 && h.propose(); n-- { // where nobody leads, none of them is done
	}
	for _, r := range h.nodes {
		if r != nil && h.random.IntN(6) == 0 {
			_ = r.Snapshot(h.ctx()) // it may be taking one
		}
	}
}

// propose commits something if anybody leads within a few elections.
func (h *history) propose() bool {
	return h.patiently(20, func(ctx context.Context) bool {
		for n, r := range h.nodes {
			if r != nil && !h.cut(n) && r.look().Leader {
				_, err := r.Propose(ctx, h.command(tick(1+h.random.Uint64N(1000))))
				return err == nil
			}
		}
		return false
	})
}

// patiently tries for so many election timeouts, and says whether it came about.
func (h *history) patiently(timeouts int, done func(context.Context) bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(timeouts)*h.config(0).Election)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !done(ctx) {
		select {
		case <-ctx.Done():
			return false
		case <-ticker.C:
		}
	}
	return true
}

// settle brings all together. Where two hold other histories than the leader, nobody commits.
func (h *history) settle() {
	for n := range h.nodes {
		h.network.heal(id(n))
		if h.nodes[n] == nil {
			h.start(n, false)
		}
	}
	h.propose()
	h.patiently(20, func(context.Context) bool {
		for _, r := range h.nodes {
			if r.look().Leader {
				return h.haveWhat(r)
			}
		}
		return false
	})
}

func (h *history) haveWhat(leader *Raft) bool {
	commit := leader.Stats().Commit
	for _, r := range h.nodes {
		if !errors.Is(r.Disk(), ErrFork) && r.Stats().Applied < commit {
			return false
		}
	}
	return commit == leader.Stats().Last
}

func (h *history) compare() {
	type view struct {
		index uint64
		state []byte
	}
	var views []view
	for n, r := range h.nodes {
		if errors.Is(r.Disk(), ErrFork) {
			h.Logf("%d holds another history", n)
			continue
		}
		var v view
		r.View(func(s *registry.State) {
			var err error
			v.index = s.Index
			v.state, err = json.Marshal(s)
			h.ok(err)
		})
		views = append(views, v)
	}
	for i, a := range views {
		for _, b := range views[:i] {
			if a.index == b.index && !bytes.Equal(a.state, b.state) {
				h.Errorf("two registries at entry %d:\n%s\n%s", a.index, a.state, b.state)
			}
		}
	}
}
