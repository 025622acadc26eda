package consensus

import (
	"sync"

	"github.com/hashicorp/raft"
)

// recentLog is the log's file with its last small entries in memory: raft reads what it has
// just written again, to send it, to apply it, and each time to name the entry before.
type recentLog struct {
	*mappedLog

	mu   sync.Mutex // protects what follows
	kept [MaxRecent]raft.Log
}

// GetLog reads an entry. Its data is shared, and nobody's to write.
func (r *recentLog) GetLog(index uint64, entry *raft.Log) error {
	if r.recall(index, entry) {
		return nil
	}
	return r.mappedLog.GetLog(index, entry)
}

func (r *recentLog) recall(index uint64, entry *raft.Log) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := &r.kept[index%MaxRecent]
	if index == 0 || at.Index != index {
		return false
	}
	*entry = *at
	return true
}

// StoreLog writes one entry.
func (r *recentLog) StoreLog(entry *raft.Log) error { return r.StoreLogs([]*raft.Log{entry}) }

// StoreLogs writes entries, and keeps those that are on disk.
func (r *recentLog) StoreLogs(entries []*raft.Log) error {
	for _, e := range entries {
		r.forget(e.Index, e.Index)
	}
	if err := r.mappedLog.StoreLogs(entries); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		if len(e.Data)+len(e.Extensions) <= MaxRecentEach {
			r.kept[e.Index%MaxRecent] = *e
		}
	}
	return nil
}

// DeleteRange removes entries.
func (r *recentLog) DeleteRange(first, last uint64) error {
	r.forget(first, last)
	return r.mappedLog.DeleteRange(first, last)
}

func (r *recentLog) forget(first, last uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.kept {
		if at := r.kept[i].Index; first <= at && at <= last {
			r.kept[i] = raft.Log{}
		}
	}
}
