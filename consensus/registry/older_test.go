package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// olderEntry is one entry of a log that an older build wrote.
type olderEntry struct {
	Index   uint64          `json:"index"`
	Term    uint64          `json:"term"`
	Type    uint8           `json:"type"` // 0 is a command
	Version byte            `json:"version"`
	Command json.RawMessage `json:"command"`
}

func older(t *testing.T, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/e45f7b0/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// TestLogOfOlderBuild: each command of a log that e45f7b0 wrote is written as it was,
// and all of them make the same state, whose snapshot has the same bytes.
func TestLogOfOlderBuild(t *testing.T) {
	s, commands := New(), 0
	for line := range bytes.Lines(older(t, "log.jsonl")) {
		var e olderEntry
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		if e.Type != 0 {
			continue
		}
		raw := append([]byte(commandMagic), e.Version)
		raw = append(raw, e.Command...)
		c, err := DecodeCommand(raw)
		if err != nil {
			t.Fatalf("entry %d: %v", e.Index, err)
		}
		if again, err := EncodeCommand(c); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("entry %d is written anew as\n%s, %v, was\n%s", e.Index, again, err, raw)
		}
		Apply(s, e.Index, e.Term, c)
		commands++
	}
	got, err := json.MarshalIndent(s, "", " ")
	if err != nil || commands < 40 {
		t.Fatalf("%d commands, %v", commands, err)
	}
	if want := older(t, "state.json"); string(got)+"\n" != string(want) {
		t.Fatalf("another state:%s", difference(string(want), string(got)))
	}
	raw, err := EncodeSnapshot(s)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(raw)
	if want := strings.TrimSpace(string(older(t, "snapshot.sha256"))); hex.EncodeToString(sum[:]) != want {
		t.Errorf("snapshot %x, was %s", sum, want)
	}
	roundTrip(t, s)
}
