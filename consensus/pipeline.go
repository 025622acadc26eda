package consensus

import (
	"cmp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// AppendEntriesPipeline sends entries to a follower that has all those before them.
func (t transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	return &pipeline{AppendPipeline: p, replica: t.replica, now: time.Now, answered: t.replica.answers.of(id)}, err
}

// pipeline is the transport's. An idle leader says each CommitTimeout what it said before:
// how far it has committed. Its beats go by another way, so what is said a second time is
// left out, but for once in SaidAgain, which shows that the connection is there. Where no beat
// was answered lately all of it is said, for the lease is held by any answer: one packet
// lost delays a beat by half a follower's patience. Raft waits for no answer to what it is
// not given one for.
type pipeline struct {
	raft.AppendPipeline
	replica  *Raft
	now      func() time.Time
	answered *atomic.Int64 // when the follower answered beside this
	said     said          // its one sender's
	within   time.Duration // 0: HandOverWithin
}

// answers are when followers last answered what is no pipeline's: beats, most of the time.
type answers struct{ at sync.Map }

func (a *answers) of(id raft.ServerID) *atomic.Int64 {
	at, _ := a.at.LoadOrStore(id, new(atomic.Int64))
	return at.(*atomic.Int64)
}

// said is a request without entries.
type said struct {
	term      uint64
	before    mark
	committed uint64
	at        time.Time
}

// AppendEntries is the transport's.
func (p *pipeline) AppendEntries(ask *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.repeats(ask) && p.now().UnixNano()-p.answered.Load() < int64(AnsweredLately) {
		return nil, nil
	}
	vouched, err := p.replica.vouch(ask)
	if err != nil {
		return nil, err
	}
	return p.handOver(vouched, answer)
}

// handOver is the transport's AppendEntries, which waits for room. Where raft's reader of
// answers has ended meanwhile, for a newer term or a request that came to nothing, nobody makes
// room ever again, and the sender alone closes the pipeline: it, the beats that it began, and
// the end of this process, which waits for it, would wait for ever. Each request has its time
// in which it is sent and the one before it answered; after that the pipeline is closed.
func (p *pipeline) handOver(ask *raft.AppendEntriesRequest, answer *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	late := time.AfterFunc(cmp.Or(p.within, HandOverWithin), func() { _ = p.Close() })
	defer late.Stop()
	return p.AppendPipeline.AppendEntries(ask, answer)
}

// repeats reports whether a request says again what the last one said a moment ago.
func (p *pipeline) repeats(ask *raft.AppendEntriesRequest) bool {
	if len(ask.Entries) > 0 {
		p.said = said{}
		return false
	}
	now := said{ask.Term, mark{ask.PrevLogEntry, ask.PrevLogTerm}, ask.LeaderCommitIndex, p.now()}
	last := p.said
	if age := now.at.Sub(last.at); age < SaidAgain {
		last.at = now.at
		if last == now {
			return true
		}
	}
	p.said = now
	return false
}
