package consensus

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// TestRewriteStopsAnywhere: a recovery whose power is lost between two of its writes is one
// that was not begun, or one that is done: the replica leads by all it had before, or by what
// it goes on from, and the same command once more recovers it.
func TestRewriteStopsAnywhere(t *testing.T) {
	t.Parallel()
	change := func(s *registry.State) (*registry.State, error) {
		s.Cluster.Incarnation, s.Tick = s.Cluster.Incarnation+1, s.Tick+100
		return s, nil
	}
	for name, stop := range map[string]struct {
		after func(*cluster)
		done  bool
	}{
		"after the term": {func(c *cluster) {
			c.write(func(l *logStore, _ *snapshotStore) error { _, _, err := l.newHistory(0); return err })
		}, false},
		"after the note": {func(c *cluster) {
			c.write(func(l *logStore, _ *snapshotStore) error {
				end := l.end()
				term, by, err := l.newHistory(0)
				return errors.Join(err, l.noteOrigin(mark{end.index, term}, by, nil))
			})
		}, false},
		"after the snapshot": {func(c *cluster) {
			before := c.image(0)
			c.ok(Rewrite(c.rewriteConfig(0), change))
			c.putBackLog(before)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 1, nil)
			for range 5 {
				c.must(c.nodes[0], tick(1))
			}
			c.stop(0)
			stop.after(c)
			for again := range 2 {
				c.start(0, false)
				want := registry.Tick(5)
				if stop.done || again > 0 {
					want += 100
				}
				if stop.done && again > 0 {
					want += 100
				}
				if r := c.leader(); ticks(r) != want {
					t.Errorf("%d ticks, not %d, at start %d", ticks(r), want, again)
				}
				c.stop(0)
				c.ok(Rewrite(c.rewriteConfig(0), change))
			}
		})
	}
}

// write does some of a stopped replica's writes.
func (c *cluster) write(some func(*logStore, *snapshotStore) error) {
	c.Helper()
	file, err := openLog(c.dirs[0])
	c.ok(err)
	snapshots, err := openSnapshots(c.dirs[0], file, newLogger(c.config(0).Log))
	c.ok(err)
	c.ok(errors.Join(some(file, snapshots), file.Close()))
}

// putBackLog gives a stopped replica the entries of an image, beside all else that it has.
func (c *cluster) putBackLog(image string) {
	c.Helper()
	from, err := openLog(image)
	c.ok(err)
	to, err := openLog(c.dirs[0])
	c.ok(err)
	last, err := from.recentLog.LastIndex()
	c.ok(err)
	for index := uint64(1); index <= last; index++ {
		var entry raft.Log
		c.ok(from.GetLog(index, &entry))
		c.ok(to.recentLog.StoreLog(&entry))
	}
	c.ok(errors.Join(from.Close(), to.Close()))
}
