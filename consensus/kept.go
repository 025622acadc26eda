package consensus

import (
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// Kept is the registry by all that this log has, for when it keeps that from being
// overwritten. What View lends may lack it: after a restart raft applies what a leader
// confirms, and none does. As in a recovery, what is written counts as committed.
func (r *Raft) Kept() (*registry.State, error) {
	last, err := r.file.LastIndex()
	if err != nil {
		return nil, fmt.Errorf("consensus: %w", err)
	}
	f, behind := newFSM(), r.file.marked() // a snapshot may end with what is no command, and the log begin there
	r.fsm.view(func(s *registry.State) { f.state = s.Clone() })
	for index := max(f.state.Index, behind.index) + 1; index <= last; index++ {
		var entry raft.Log
		if err := r.file.GetLog(index, &entry); err != nil {
			return nil, fmt.Errorf("consensus: entry %d: %w", index, err)
		}
		if entry.Type == raft.LogCommand {
			f.Apply(&entry)
		}
	}
	return f.state, f.failure()
}

// Former is the registry of the incarnation that was given up, by all that this log had of
// it, once the recovered mesh took its place; nil: it did not in this process, or what is to
// be told of it was. The recovered mesh may lack refusals that it has.
func (r *Raft) Former() *registry.State { return r.former.Load() }

// ForgetFormer ends that.
func (r *Raft) ForgetFormer() { r.former.Store(nil) }

// keepFormer is called before the snapshot of another incarnation replaces the log.
func (r *Raft) keepFormer(incarnation uint64) {
	if incarnation <= max(r.incarnation(), 1) {
		return
	}
	state, err := r.Kept()
	switch {
	case err != nil:
		r.log.Error("whom the log from before the recovery refuses cannot be read, and is not told", "error", err)
	case state.Founded() && state.Cluster.Incarnation < incarnation:
		r.former.Store(state)
	}
}
