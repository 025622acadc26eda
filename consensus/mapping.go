package consensus

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// mappedLog is the log's file, which bbolt reads through a mapping. Each page that was ever
// read or written counts as this process's memory until the mapping goes, so what a crowd's
// logins left in the log would count for good.
type mappedLog struct {
	*raftboltdb.BoltStore

	file *os.File // bbolt's own

	moves  sync.Mutex // held by what may put the mapping elsewhere; protects what follows
	closed bool
}

func openMapped(path string) (*mappedLog, error) {
	m := &mappedLog{}
	var err error
	m.BoltStore, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{
		Timeout: LockTimeout,
		OpenFile: func(path string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(path, flag, mode)
			m.file = f
			return f, err
		},
	}})
	return m, err
}

// giveBack has no page of the mapping count as this process's memory any more. They stay
// in the kernel's cache while it has room, and what is read comes from there. The mapping
// is shared with the file and nobody writes through it, so nothing is lost. Where it is
// being written it is left for another time.
func (m *mappedLog) giveBack() error {
	if !m.moves.TryLock() {
		return nil
	}
	defer m.moves.Unlock()
	if m.closed {
		return nil
	}
	from, to, err := m.mapping()
	if err != nil {
		return err
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, from, to-from, syscall.MADV_DONTNEED); errno != 0 {
		return fmt.Errorf("consensus: the log's pages are not given back: %w", errno)
	}
	return nil
}

var errNotMapped = errors.New("consensus: the kernel does not show where the log is mapped")

// mapping is where the file is mapped. bbolt has it at one place, and a lock on the file
// keeps everybody else from mapping it.
func (m *mappedLog) mapping() (from, to uintptr, err error) {
	name, err := os.Readlink(fmt.Sprint("/proc/self/fd/", m.file.Fd()))
	if err != nil {
		return 0, 0, err
	}
	all, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(all)) {
		place, of, found := strings.Cut(line, " r--s ")
		if !found || !strings.HasSuffix(of, " "+name+"\n") {
			continue
		}
		if n, _ := fmt.Sscanf(place, "%x-%x", &from, &to); n == 2 && from < to {
			return from, to, nil
		}
	}
	return 0, 0, errNotMapped
}

// StoreLog writes one entry.
func (m *mappedLog) StoreLog(entry *raft.Log) error { return m.StoreLogs([]*raft.Log{entry}) }

// StoreLogs writes entries.
func (m *mappedLog) StoreLogs(entries []*raft.Log) error {
	m.moves.Lock()
	defer m.moves.Unlock()
	return m.BoltStore.StoreLogs(entries)
}

// DeleteRange removes entries.
func (m *mappedLog) DeleteRange(first, last uint64) error {
	m.moves.Lock()
	defer m.moves.Unlock()
	return m.BoltStore.DeleteRange(first, last)
}

// Set writes a value beside the entries.
func (m *mappedLog) Set(key, value []byte) error {
	m.moves.Lock()
	defer m.moves.Unlock()
	return m.BoltStore.Set(key, value)
}

// SetUint64 writes a number.
func (m *mappedLog) SetUint64(key []byte, value uint64) error {
	m.moves.Lock()
	defer m.moves.Unlock()
	return m.BoltStore.SetUint64(key, value)
}

// Close ends the mapping.
func (m *mappedLog) Close() error {
	m.moves.Lock()
	defer m.moves.Unlock()
	m.closed = true
	return m.BoltStore.Close()
}

// givePagesBack does so from time to time. Where the kernel does not show where the log is
// mapped, they stay.
func (r *Raft) givePagesBack() {
	ticker := time.NewTicker(PagesKept)
	defer ticker.Stop()
	for {
		select {
		case <-r.closing:
			return
		case <-ticker.C:
		}
		if err := r.file.giveBack(); err != nil {
			r.log.Debug("the log's pages are kept", "error", err)
		}
	}
}
