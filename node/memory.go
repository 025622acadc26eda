package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus"
	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/datadir"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// memory is what this node keeps on its disk while it runs, and how that disk is. The
// zero value is ready, and writes nothing.
type memory struct {
	changed chan struct{} // one slot: the members are to be saved
	due     chan struct{} // one slot: what is known is to be saved now
	ails    atomic.Pointer[string]
	writing sync.Mutex // held, before mu, while what is known goes to disk: none overtakes another

	mu      sync.Mutex // protects what follows
	known   protocol.Known
	saved   protocol.Known // of it, on disk
	unsaved error          // of the last try
}

// countStart is how often this node has started before.
func (n *Node) countStart() uint64 {
	before, err := n.dir.CountStart()
	if err != nil {
		n.config.Log.Warn("it is not kept how often this node has started; after the next time packets of its clients may look forged", "error", err)
	}
	return before
}

// learn keeps what the arbiter says of the mesh. The file is written beside the loop that
// hears of it: a disk may take its time.
func (n *Node) learn(rows []protocol.NodeRow, fence protocol.Fence, v *protocol.View) {
	m := &n.members
	m.mu.Lock()
	defer m.mu.Unlock()
	n.sayVote(m.rows, rows)
	m.rows, m.fence = rows, fence
	if len(v.GossipKey) > 0 {
		m.key = v.GossipKey
	}
	if len(v.Nodes) == 0 && !v.Full {
		return
	}
	select {
	case n.memory.changed <- struct{}{}:
	default: // one that waits is enough
	}
}

// sayVote tells this host's operator that its node got or lost a vote.
func (n *Node) sayVote(before, now []protocol.NodeRow) {
	own := func(row protocol.NodeRow) bool { return row.Voter && row.ID == n.trust.Key.ID() }
	switch had, has := slices.ContainsFunc(before, own), slices.ContainsFunc(now, own); {
	case has && !had:
		n.config.Log.Info("this node votes, and may become the arbiter")
	case had && !has:
		n.config.Log.Info("this node votes no more")
	}
}

// keepMembers saves the members after each change, and once more at the end.
func (n *Node) keepMembers(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-n.memory.changed:
			n.saveMembers()
		}
	}
	select {
	case <-n.memory.changed:
		n.saveMembers()
	default:
	}
}

func (n *Node) saveMembers() {
	m := &n.members
	m.mu.Lock()
	members := datadir.Members{Nodes: m.rows, GossipKey: m.key, Fence: m.fence}
	m.mu.Unlock()
	err := n.reserve.Open(func() error { return n.dir.SaveMembers(members) })
	n.memory.mu.Lock()
	defer n.memory.mu.Unlock()
	if err != nil && n.memory.unsaved == nil {
		n.config.Log.Error("members not saved; tried again every second", "error", err)
	}
	n.memory.unsaved = err
}

// readKnown goes on without a damaged file: what it held was a guard against voters that
// were put back, and other nodes hold it as well.
func readKnown(dir *datadir.Dir, log *slog.Logger) (protocol.Known, error) {
	k, err := dir.Known()
	if !errors.Is(err, datadir.ErrDamaged) {
		return k, err
	}
	log.Warn("how far the mesh's history went, as this node was told, cannot be read; it goes on by the fence in members.json and is told anew. "+
		"Nothing is to be done, but if it comes again look at the disk (dmesg)", "error", err, "incarnation", k.Incarnation, "term", k.Term)
	return k, nil
}

// saveFence keeps the highest fence on disk, so that a restarted node does not obey an
// arbiter that was deposed (I6).
func (n *Node) saveFence(fence protocol.Fence) error {
	m, told := &n.memory, protocol.Known{Fence: fence}
	m.writing.Lock()
	defer m.writing.Unlock()
	if !m.furthest().Less(told) {
		return nil
	}
	if err := n.reserve.Open(func() error { return n.dir.SaveKnown(told) }); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.saved = told
	if m.known.Less(told) { // else more was told meanwhile
		m.known = told
	}
	return nil
}

// told keeps how far the mesh's history went, by an arbiter's word; the disk hears of it
// in keepDisk.
func (n *Node) told(k protocol.Known) {
	if !n.believes(k) {
		n.config.Log.Warn("what an arbiter did not sign is not believed of the log", "by", k.By.ID().Short())
		return
	}
	if store := n.store.Load(); store != nil {
		store.Hold(floorOf(k))
	}
	m := &n.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.known.Less(k) {
		return
	}
	if m.known = k; k.Keep {
		select {
		case m.due <- struct{}{}:
		default: // one that waits is enough
		}
	}
}

// believes says that a node which may be an arbiter said it.
func (n *Node) believes(k protocol.Known) bool {
	return n.members.find(k.By.ID()).May&registry.RoleVoter != 0 && k.Genuine(n.self.Cluster)
}

func (m *memory) furthest() protocol.Known {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known
}

// proven is the furthest that this node was told of, with an arbiter's signature; nil:
// nothing.
func (m *memory) proven() *protocol.Known {
	if k := m.furthest(); k.Index != 0 {
		return &k
	}
	return nil
}

// saveKnown puts on disk what was told since.
func (n *Node) saveKnown() {
	m := &n.memory
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	k, due := m.known, m.saved.Less(m.known)
	m.mu.Unlock()
	if !due {
		return
	}
	err := n.reserve.Open(func() error { return n.dir.SaveKnown(k) })
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.unsaved = err
	} else if m.saved.Less(k) {
		m.saved = k
	}
}

// keepDisk looks at the disk of the data directory, and writes the members again that
// could not be saved.
func (n *Node) keepDisk(ctx context.Context) {
	ticker := time.NewTicker(DiskEvery)
	defer ticker.Stop()
	for turn := 0; ; turn++ {
		if turn%KnownTurns == 0 {
			n.saveKnown()
		}
		says := n.lookAtDisk()
		n.memory.ails.Store(&says)
		select {
		case <-ctx.Done():
			return
		case <-n.memory.due:
			n.saveKnown()
		case <-ticker.C:
		}
	}
}

// lookAtDisk says what is wrong with it; empty: nothing.
func (n *Node) lookAtDisk() string {
	n.memory.mu.Lock()
	err := n.memory.unsaved
	n.memory.mu.Unlock()
	if err != nil {
		select {
		case n.memory.changed <- struct{}{}:
		default:
		}
	}
	if store := n.store.Load(); store != nil {
		if ails := store.Disk(); ails != nil {
			err = ails
		}
	}
	path := n.dir.Path("")
	says := diskWords(path, cmp.Or(err, n.room(path)))
	if lost := n.dir.Lost(); says == "" && len(lost) > 0 {
		says = fmt.Sprintf("%s has lost %s, without which this daemon cannot start again: put that back from a copy before it stops; without a copy, "+
			"meshcrypt leave there and meshcrypt join anew", path, strings.Join(lost, ", "))
	}
	return says
}

// roomOn says why nothing more fits on the disk of a directory.
func roomOn(path string) error {
	var fs syscall.Statfs_t
	err := syscall.Statfs(path, &fs)
	if err == nil && (fs.Bfree*uint64(fs.Bsize) < DiskLeast || fs.Files > 0 && fs.Ffree == 0) {
		err = syscall.ENOSPC
	}
	return err
}

// diskWords say what is wrong with the disk below a directory, and what to do.
func diskWords(path string, err error) string {
	var cause syscall.Errno
	slow, drags := errors.AsType[consensus.SlowDisk](err)
	switch {
	case err == nil, errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE): // of the process, which says so by itself
		return ""
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return path + " is full: free space there"
	case errors.Is(err, consensus.ErrFileGone):
		return path + " has lost the log's file, which only the running daemon still has; a copy from elsewhere is no help. Where other voters live, restart this daemon, " +
			"and no other one before it is well: it becomes a voter anew. Of an only voter, save what it has (meshcrypt operator snapshot save FILE), stop it, and restore that"
	case errors.Is(err, syscall.EROFS):
		return path + " is mounted read-only: look at dmesg for why, and mount it for writing"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return path + " does not let this daemon write (" + syscall.EACCES.Error() + "): give it back to the daemon's user (chown -R), with mode 700"
	case errors.Is(err, consensus.ErrFork):
		return path + " holds changes that the arbiter's log lacks, for a voter was put back to an older disk. " +
			"Whom they refuse the arbiter refuses as well; to unite the rest: `meshcrypt operator snapshot save FILE` on the arbiter's host, and with that FILE on the host of this disk: " +
			"stop the daemon, `meshcrypt operator snapshot restore FILE --make-this-node-the-only-voter`, and start it"
	case drags:
		return fmt.Sprintf("%s is slow (%v for one write): look what else uses it (iostat -x 1)", path, slow.Took)
	case errors.As(err, &cause):
		return fmt.Sprintf("%s fails (%v): look at dmesg, and mend or replace it", path, cause)
	}
	return fmt.Sprintf("%s fails (%v): mend or replace it", path, err)
}

// diskSays is what was wrong at the last look.
func (n *Node) diskSays() string {
	if says := n.memory.ails.Load(); says != nil {
		return *says
	}
	return ""
}

// failingDisks are the sentences about disks in a status.
func (n *Node) failingDisks(heard bool) (all []string) {
	const after = "; what waits for it goes on by itself then"
	if says := n.diskSays(); says != "" {
		all = append(all, "the disk below "+says+after)
	}
	if store := n.store.Load(); store != nil && store.Spoilt() != "" {
		all = append(all, "the disk of this host has spoilt a snapshot of the registry, which lies in "+store.Spoilt()+
			" now: look at dmesg, and replace the disk if it fails; this is said until that directory is removed")
	}
	for _, row := range n.members.all() {
		if heard && row.Disk != "" && row.ID != n.trust.Key.ID() {
			all = append(all, "on "+row.Name+" the disk below "+row.Disk+after)
		}
	}
	return all
}
