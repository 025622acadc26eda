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
	f := newFSM()
	r.fsm.view(func(s *registry.State) { f.state = s.Clone() })
	for index := f.state.Index + 1; index <= last; index++ {
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
