package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// SlowDisk means that the disk below the log takes seconds for what takes others
// milliseconds: so long for one write, or longer.
type SlowDisk struct{ Took time.Duration }

func (s SlowDisk) Error() string {
	return fmt.Sprintf("consensus: the disk takes %v for one write", s.Took)
}

// disk is how writing the log went lately. What writes it waits for no reader.
type disk struct {
	mu    sync.Mutex // protects what follows
	fault error      // of the last write; nil: it went well
	since time.Time  // when the present write began; zero: there is none
	slow  time.Duration
	at    time.Time // when slow was seen last
}

// end is of a write that says nothing of the disk's health.
func (d *disk) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since = time.Time{}
}

func (d *disk) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since = time.Now()
}

// note takes the outcome of one write, and says whether the disk's health changed.
func (d *disk) note(err error, took time.Duration) (changed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	was := d.ails(time.Now()) != nil
	d.fault, d.since = err, time.Time{}
	if now := time.Now(); err == nil && took >= SlowWrite {
		if d.slow = 0; took >= SlowOnce || now.Sub(d.at) < SlowFor {
			d.slow = took // a short one may happen to any disk
		}
		d.at = now
	}
	return was != (d.ails(time.Now()) != nil)
}

// ails says what is wrong; the caller holds mu. Two slow writes count for SlowFor, and so
// does one of SlowOnce, which counts before it ends: nobody is to wait for that.
func (d *disk) ails(now time.Time) error {
	switch {
	case d.fault != nil:
		return d.fault
	case d.slow != 0 && now.Sub(d.at) < SlowFor:
		return SlowDisk{d.slow.Round(time.Second)}
	case !d.since.IsZero() && now.Sub(d.since) >= SlowOnce:
		return SlowDisk{SlowOnce}
	}
	return nil
}

func (d *disk) health() (ails, fault error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ails(time.Now()), d.fault
}

// StoreLogs writes entries. The only voter tries until it can, for nobody else could do
// better, and to step down would only be to stand again. Any other says no: a leader
// steps down by that, and a follower is sent them again. So is what would be decided by a
// log that was given up.
func (l *logStore) StoreLogs(entries []*raft.Log) error {
	if own := entries[0].Extensions == nil; own && l.floor != nil && l.floor.givenUp() {
		return errGivenUp
	}
	l.sign(entries)
	took, err := l.write(func() error { return l.recentLog.StoreLogs(entries) }, l.alone)
	if err == nil {
		l.note(nil, took)
	}
	return err
}

// SetUint64 writes a number, for which there may be room when there is none for entries:
// that it is written makes no disk well. Raft panics when that of the present term is not
// written, so it is tried until it is.
func (l *logStore) SetUint64(key []byte, value uint64) error {
	term := string(key) == keyTerm && l.serving.Load()
	_, err := l.write(func() error { return l.recentLog.SetUint64(key, value) }, func() bool { return term })
	if err == nil {
		l.disk.end()
	}
	if err != nil && term {
		runtime.Goexit() // the replica closes; raft's goroutine, which this is, would panic
	}
	return err
}

// keyTerm is where raft keeps the present term.
const keyTerm = "CurrentTerm"

// write does one write, again and again while it fails and insist says so. It gives the
// time that the last try took.
func (l *logStore) write(do func() error, insist func() bool) (took time.Duration, err error) {
	for {
		began := time.Now()
		l.disk.begin()
		if err = l.broken(); err == nil {
			err = do()
		}
		if took = time.Since(began); err == nil {
			return took, nil
		}
		l.note(err, 0)
		if !insist() {
			return took, err
		}
		select {
		case <-l.closing:
			return took, err
		case <-time.After(DiskRetry):
		}
	}
}

// broken is nil but in tests.
func (l *logStore) broken() error {
	if l.fails == nil {
		return nil
	}
	return l.fails()
}

func (l *logStore) note(err error, took time.Duration) {
	if l.disk.note(err, took) {
		l.tend()
	}
}

// tend asks for a look at once.
func (l *logStore) tend() {
	select {
	case l.ailing <- struct{}{}:
	default:
	}
}

// try writes as much as a message of entries may need, beside the log and into it.
func (l *logStore) try() error {
	path := filepath.Join(l.dir, tryFile)
	defer os.Remove(path)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, DiskTry))
	if err == nil {
		err = f.Sync()
	}
	if err = cmp.Or(err, f.Close(), l.broken()); err != nil {
		return err
	}
	return l.recentLog.Set([]byte(tryFile), []byte{1})
}

const tryFile = "try"

// Disk says why the log cannot be written, only slowly, or not as the leader wants it;
// nil: it can.
func (r *Raft) Disk() error {
	ails, _ := r.file.disk.health()
	return cmp.Or(ails, r.file.gone(), r.floor.forked())
}

// alone says that this node is the only voter: nobody else could lead.
func (r *Raft) alone() bool {
	<-r.started // raft's goroutines run a little earlier
	voters := slices.DeleteFunc(r.Servers(), func(s Server) bool { return !s.Voter })
	return len(voters) == 1 && voters[0].ID == r.id
}

// tendDisk has a voter whose disk fails give the lead away, and not stand for it before
// its disk is well, which it tries whoever leads meanwhile. One whose log is below the
// floor does not stand either.
func (r *Raft) tendDisk() {
	ticker := time.NewTicker(DiskLook)
	defer ticker.Stop()
	type condition struct{ ails, behind, only, refrains bool }
	var was condition
	for opened := r.raft.ReloadableConfig().HeartbeatTimeout == DiskPatience; ; opened = false {
		ails, lacks := r.Disk(), r.Behind()
		if now := (condition{ails != nil, lacks, lacks && r.alone(), r.leavesLead()}); now != was || opened {
			if ails == nil && lacks {
				ails = errBehind
			}
			if silent := (condition{was.ails, was.behind, was.only, now.refrains}); now != silent || opened {
				r.sayDisk(ails, was.ails)
			}
			was = now
			r.suffer(ails)
		}
		select {
		case <-r.closing:
			return
		case <-r.file.ailing:
		case <-ticker.C:
			if _, fault := r.file.disk.health(); fault != nil {
				began := time.Now()
				err := r.file.try()
				r.file.note(err, time.Since(began))
			}
		}
	}
}

// errBehind is why a replica waits for entries that others know of.
var errBehind = errors.New("others know of entries that this log lacks")

// sayDisk tells an operator what became of this node's copy of the log.
func (r *Raft) sayDisk(ails error, was bool) {
	switch {
	case ails == nil && was:
		r.log.Info("this node's log is well again")
	case ails == nil:
		r.log.Info("this node's copy of the log is complete")
	case errors.Is(ails, errBehind) && r.file.end() == mark{}:
		r.log.Info("this node begins to keep a copy of the log")
	case errors.Is(ails, errBehind):
		r.log.Info("this node's copy of the log lacks what others know of; it does not stand for arbiter before it has caught up")
	case r.alone():
		r.log.Error("this node's log is not well, and no other node votes: it serves on, and what is to be changed waits", "error", ails)
	default:
		r.log.Error("this node's log is not well: it leaves the lead to others until it is", "error", ails)
	}
}

// suffer changes a follower's patience: with a failing disk it would lose the lead at its
// first entry, be chosen again for its long log, and lose it again. An only voter leads on.
func (r *Raft) suffer(ails error) {
	timing := r.raft.ReloadableConfig()
	timing.HeartbeatTimeout, timing.ElectionTimeout = r.heartbeat, r.election
	if r.leavesLead() {
		timing.HeartbeatTimeout, timing.ElectionTimeout = RefrainTimes*r.heartbeat, RefrainTimes*r.election
	}
	_, slow := errors.AsType[SlowDisk](ails)
	// Slow are perhaps all of them, on one storage: somebody has to lead. An only voter leads
	// on, too, but not by a log that was given up. Who is behind has no patience with a leader
	// that may be dead, or it would vote for no other: it asks for no vote (transport).
	if ails != nil && !slow && errors.Is(ails, errBehind) == r.alone() {
		timing.HeartbeatTimeout, timing.ElectionTimeout = DiskPatience, DiskPatience
	}
	if err := r.raft.ReloadConfig(timing); err != nil {
		r.log.Error("elections keep their timing", "error", err)
	}
	if ails != nil && !r.alone() && r.raft.State() == raft.Leader {
		ctx, cancel := context.WithTimeout(context.Background(), DiskLook)
		defer cancel()
		_ = r.TransferLeadership(ctx) // without success it steps down at the next write
	}
}
