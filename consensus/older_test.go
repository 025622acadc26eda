package consensus

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
)

const olderBuild = "registry/testdata/e45f7b0"

// olderLog puts the log that an older build kept back into a file.
func olderLog(t *testing.T, dir string) (last raft.Log) {
	t.Helper()
	lines, err := os.ReadFile(filepath.Join(olderBuild, "log.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := raftboltdb.NewBoltStore(filepath.Join(dir, logFile))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for line := range bytes.Lines(lines) {
		var e struct {
			Index, Term uint64
			Type        raft.LogType
			Version     byte
			Command     json.RawMessage
			Data        []byte
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Type == raft.LogCommand {
			e.Data = append(append([]byte("mcrc"), e.Version), e.Command...)
		}
		last = raft.Log{Index: e.Index, Term: e.Term, Type: e.Type, Data: e.Data}
		if err := file.StoreLog(&last); err != nil {
			t.Fatal(err)
		}
	}
	if err := file.SetUint64([]byte("CurrentTerm"), last.Term); err != nil {
		t.Fatal(err)
	}
	return last
}

// TestLogOfOlderBuildOpens: a replica goes on with the log of e45f7b0, and what that
// build would have made of it.
func TestLogOfOlderBuildOpens(t *testing.T) {
	var want registry.State
	raw, err := os.ReadFile(filepath.Join(olderBuild, "state.json"))
	if err == nil {
		err = json.Unmarshal(raw, &want)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{T: t, network: newMemory(), nodes: make([]*Raft, 1), dirs: []string{t.TempDir()}}
	last := olderLog(t, c.dirs[0])
	c.tune = func(config *Config) {
		config.ID = want.Members()[0].ID
		config.Layer = c.network.layer(config.ID)
	}
	c.start(0, false)
	t.Cleanup(func() { c.stop(0) })
	c.leader()
	c.ok(c.nodes[0].Barrier(c.ctx()))
	c.nodes[0].View(func(s *registry.State) {
		got, err := json.MarshalIndent(s, "", " ")
		if err != nil || s.Index > last.Index || string(got)+"\n" != string(raw) {
			t.Errorf("another state at entry %d of %d, %v", s.Index, last.Index, err)
		}
	})
}
