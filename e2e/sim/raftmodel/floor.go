package raftmodel

import (
	"slices"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// floor is how far the log was committed, as this replica was told; the rules are those
// of consensus/floor.go.
type floor struct {
	known consensus.Known
	terms []consensus.Known // the furthest of each term of one incarnation
	fork  *consensus.Known  // what is committed, and a leader wanted to overwrite; nil: nothing
}

// at is the place that somebody knows of.
func at(k consensus.Known) place { return place{index: k.Index, term: k.Term} }

func (f *floor) learn(k consensus.Known) (raised bool) {
	was := f.known
	raised = was.Incarnation < k.Incarnation || was.Incarnation == k.Incarnation &&
		at(was).before(at(k))
	if raised {
		f.known = k
	}
	f.remember(k)
	return raised
}

func (f *floor) remember(k consensus.Known) {
	if len(f.terms) > 0 && k.Incarnation != f.terms[0].Incarnation {
		if k.Incarnation < f.terms[0].Incarnation {
			return
		}
		f.terms = nil
	}
	if i := slices.IndexFunc(f.terms, func(o consensus.Known) bool { return o.Term == k.Term }); i >= 0 {
		f.terms[i].Index = max(f.terms[i].Index, k.Index)
		return
	}
	f.terms = append(f.terms, k)
	f.terms = f.terms[max(0, len(f.terms)-consensus.MaxTerms):]
}

func (r *Replica) incarnation() (own uint64) {
	r.View(func(s *registry.State) { own = s.Cluster.Incarnation })
	return own
}

// lacks says that a log which ends at a place is below the floor.
func (r *Replica) lacks(end place) bool {
	k := r.floor.known
	if r.cluster.flaws.heedless {
		return false
	}
	return r.givenUp() || k.Incarnation >= r.incarnation() && end.before(at(k))
}

func (r *Replica) behind() bool { return r.lacks(r.disk.end()) }

// guards says that an entry from an index on was committed, as far as this replica was
// told or has applied it: it is not overwritten. What was committed before a leader's
// incarnation was given up with that.
func (r *Replica) guards(first, incarnation uint64) bool {
	own, base := r.incarnation(), r.disk.snapshot.place
	applied, _ := r.disk.placeAt(r.applied)
	bound := slices.DeleteFunc(append([]consensus.Known{{Incarnation: own, Term: applied.term, Index: r.applied}}, r.floor.terms...),
		func(k consensus.Known) bool { return k.Incarnation < incarnation || first > r.committed(k) })
	if len(bound) == 0 && first <= base.index && own >= incarnation {
		bound = append(bound, consensus.Known{Incarnation: own, Term: base.term, Index: base.index})
	}
	if len(bound) == 0 {
		return false
	}
	if r.floor.fork == nil {
		r.say("keeps what was committed from being overwritten")
	}
	kept := bound[0]
	r.floor.fork = &kept
	if r.disk.kept != kept {
		r.disk.write(func(i *Image) { i.kept = kept })
	}
	return true
}

// joined says that the log is the leader's up to an index.
func (r *Replica) joined(index uint64) {
	if r.floor.fork != nil && index >= r.floor.fork.Index {
		r.floor.fork = nil
	}
}

func (r *Replica) forked() bool {
	return r.floor.fork != nil && r.floor.fork.Incarnation >= r.incarnation()
}

// committed is how far the log holds what a term committed.
func (r *Replica) committed(k consensus.Known) uint64 {
	at := min(k.Index, r.disk.end().index)
	e, ok := r.disk.at(at)
	if !ok || at <= r.disk.snapshot.index || e.term != k.Term {
		return 0
	}
	return at
}

// Learn tells the replica how far the log was committed, by somebody else's word.
func (r *Replica) Learn(k consensus.Known) {
	r.cluster.turn(func() {
		if r.floor.learn(k) {
			r.run(r.tendPatience)
		}
	})
}

// Hold tells it how far its arbiter committed.
func (r *Replica) Hold(k consensus.Known) {
	r.cluster.turn(func() { r.floor.remember(k) })
}

// Behind says that it does not stand for what others know.
func (r *Replica) Behind() (so bool) {
	r.cluster.turn(func() { so = r.behind() })
	return so
}

// Misses says, at a leader, that its log lacks what was committed.
func (r *Replica) Misses(k consensus.Known) (so bool) {
	own := r.incarnation()
	r.cluster.turn(func() {
		if k.Incarnation != own || k.Index <= r.disk.snapshot.index {
			return
		}
		e, ok := r.disk.at(k.Index)
		so = !ok || e.term != k.Term
	})
	return so
}

// Disk says why the log is not as the leader wants it; nil: it is.
func (r *Replica) Disk() (err error) {
	r.cluster.turn(func() {
		if r.forked() {
			err = consensus.ErrFork
		}
	})
	return err
}
