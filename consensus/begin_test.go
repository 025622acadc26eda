package consensus

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

// unbegun are directories whose power was lost before the first entry was in the log: how far
// the replica came, and in which term it was.
var unbegun = map[string]func(c *cluster){
	"an empty file": func(c *cluster) { c.ok(os.WriteFile(filepath.Join(c.dirs[0], logFile), nil, 0o600)) },
	"a file": func(c *cluster) {
		file, err := openLog(c.dirs[0])
		c.ok(err)
		c.ok(file.Close())
	},
	"the term":     func(c *cluster) { c.setTerm(0, 1) },
	"a later term": func(c *cluster) { c.setTerm(0, 3*TermsGivenUp) }, // of a standby that was not filled
	"snapshots":    func(c *cluster) { c.ok(os.MkdirAll(filepath.Join(c.dirs[0], snapshotsDir), 0o700)) },
}

// newUnbegun is a replica that is started on such a directory later.
func newUnbegun(t *testing.T, begin func(*cluster)) *cluster {
	c := &cluster{T: t, network: newMemory(), nodes: make([]*Raft, 1), dirs: []string{t.TempDir()}}
	begin(c)
	if has, err := HasLog(c.dirs[0]); has || err != nil {
		t.Errorf("there is a log, %v", err)
	}
	t.Cleanup(func() { c.stop(0) })
	return c
}

// TestFoundedOnceMore: a founder whose power was lost before the first entry was on disk founds
// its mesh at the next start. It opened what there was of the log, which has no voter, for ever.
func TestFoundedOnceMore(t *testing.T) {
	for name, begin := range unbegun {
		t.Run(name, func(t *testing.T) {
			c := newUnbegun(t, begin)
			c.start(0, true)
			c.leader()
			c.must(c.nodes[0], registry.Command{Found: founding()})
			c.stop(0)
			if has, err := HasLog(c.dirs[0]); !has || err != nil {
				t.Errorf("there is no log, %v", err)
			}
		})
	}
}

// TestRestoredWhereNothingIs: neither is such a directory a log to recover from, nor does it
// keep a snapshot from being restored into it: that had none of the entries before it, and was
// sent to nobody.
func TestRestoredWhereNothingIs(t *testing.T) {
	for name, begin := range unbegun {
		t.Run(name, func(t *testing.T) {
			c := newUnbegun(t, begin)
			file, err := openLog(c.dirs[0])
			c.ok(err)
			was, _ := file.GetUint64([]byte(keyTerm))
			c.ok(file.Close())
			config := c.rewriteConfig(0)
			same := func(s *registry.State) (*registry.State, error) { return s, nil }
			if err := Rewrite(config, same); !errors.Is(err, ErrNoLog) {
				t.Errorf("recovered from nothing: %v", err)
			}
			config.Empty = true
			c.ok(Rewrite(config, func(s *registry.State) (*registry.State, error) {
				return s, registry.Apply(s, 1, 1, registry.Command{ID: registry.CommandID{1}, Found: founding()}).Err()
			}))
			c.start(0, false)
			c.must(c.leader(), tick(1))
			if s := c.nodes[0].Stats(); s.Snapshot == 0 || s.Term <= was || ticks(c.nodes[0]) != 1 {
				t.Errorf("%+v, was in term %d", s, was)
			}
		})
	}
}
