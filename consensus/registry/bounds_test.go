package registry

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestSnapshotSaysItsLength: one that is whole by its checksum, and not as long as it
// says, is not ours.
func TestSnapshotSaysItsLength(t *testing.T) {
	raw, err := EncodeSnapshot(New())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeSnapshot(raw); err != nil {
		t.Fatal(err)
	}
	end := len(raw) - sha256.Size
	for _, off := range []uint64{^uint64(0), 1} {
		at := raw[len(snapshotMagic)+1:]
		was := binary.BigEndian.Uint64(at)
		binary.BigEndian.PutUint64(at, was+off)
		sum := sha256.Sum256(raw[:end])
		copy(raw[end:], sum[:])
		if _, err := DecodeSnapshot(raw); !errors.Is(err, ErrSnapshot) {
			t.Errorf("says %d bytes, has %d: %v", was+off, was, err)
		}
		binary.BigEndian.PutUint64(at, was)
	}
}

// TestMaxSnapshot: what says that it is too long is not looked at.
func TestMaxSnapshot(t *testing.T) { // I10
	raw := binary.BigEndian.AppendUint64([]byte(snapshotMagic+"\x04"), MaxSnapshot)
	if _, err := DecodeSnapshot(raw); !errors.Is(err, io.EOF) {
		t.Errorf("at the limit: %v", err)
	}
	raw[len(raw)-1]++
	if _, err := DecodeSnapshot(raw); err == nil || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("beyond it: %v", err)
	}
}

// TestTokenKeyLimit: what is at the limit is taken.
func TestTokenKeyLimit(t *testing.T) { // I10
	f := newFixture(t)
	long := Token{ID: "t", Verify: make([]byte, MaxName), May: RoleAgent, Uses: 1, Expires: 1}
	f.must(Command{CreateToken: &CreateToken{Token: long}})
	long.ID, long.Verify = "u", make([]byte, MaxName+1)
	f.refuse(ErrInvalid, Command{CreateToken: &CreateToken{Token: long}})
}
