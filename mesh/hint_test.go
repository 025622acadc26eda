package mesh

import (
	"bytes"
	"errors"
	"testing"

	"github.com/hashicorp/memberlist"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func TestHintRoundTrip(t *testing.T) {
	want := Hint{Index: identity.MaxIndex, Boot: identity.BootID{1, 15: 16}, Load: 1, Capacity: 1<<32 - 1}
	for _, leaving := range []bool{false, true} {
		b := marshalHint(want, leaving)
		if len(b) > MaxHint {
			t.Errorf("%d bytes, limit %d", len(b), MaxHint)
		}
		if got, l, err := parseHint(b); err != nil || got != want || l != leaving {
			t.Errorf("parsed %+v, %v, %v", got, l, err)
		}
	}
}

func TestHintRefused(t *testing.T) {
	good := marshalHint(Hint{Index: 1}, false)
	for what, b := range map[string][]byte{
		"empty": nil, "short": good[:hintLen-1], "long": append(bytes.Clone(good), 0),
		"version": append([]byte{2}, good[1:]...), "flags": append([]byte{1, 2}, good[2:]...),
		"index": append([]byte{1, 0, 0x10, 0}, good[4:]...),
	} {
		if _, _, err := parseHint(b); !errors.Is(err, ErrHint) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func FuzzHint(f *testing.F) {
	f.Add(marshalHint(Hint{Index: 7, Load: 8, Capacity: 9}, true))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		h, leaving, err := parseHint(b)
		if err == nil && !bytes.Equal(marshalHint(h, leaving), b) {
			t.Errorf("%x parsed as %+v", b, h)
		}
	})
}

// FuzzAlive: whatever name and metadata gossip brings, only names that the
// registry knows are kept, and a table stays within its limit.
func FuzzAlive(f *testing.F) {
	known := identity.PublicKey{1}.ID()
	f.Add(known.String(), marshalHint(Hint{Index: 7}, false))
	f.Add("host-7", []byte{})
	f.Add("../../\x00", bytes.Repeat([]byte{1}, MaxHint+1))
	f.Fuzz(func(t *testing.T, name string, meta []byte) {
		m := newMembers(identity.NodeID{}, func(id identity.NodeID) bool { return id == known })
		n := &memberlist.Node{Name: name, Addr: []byte{10, 0, 0, 1}, Port: 1, Meta: meta}
		if err := m.NotifyAlive(n); err == nil && (name != known.String() || len(meta) > MaxHint) {
			t.Errorf("%q with %d bytes is let in", name, len(meta))
		}
		_ = m.NotifyMerge([]*memberlist.Node{n, nil}[:1])
		m.NotifyJoin(n)
		m.NotifyUpdate(n)
		m.NotifyLeave(n)
		for _, member := range m.list() {
			if member.Node != known {
				t.Errorf("%+v is listed", member)
			}
		}
	})
}

func node(key uint32, meta []byte) *memberlist.Node {
	id := identity.PublicKey{byte(key), byte(key >> 8)}.ID()
	return &memberlist.Node{Name: id.String(), Addr: []byte{10, 0, 0, 1}, Port: 1, Meta: meta}
}

func TestLimitMembers(t *testing.T) { // I10
	m := newMembers(identity.NodeID{}, func(identity.NodeID) bool { return true })
	for i := range uint32(MaxMembers + 1) {
		m.NotifyJoin(node(i, nil))
	}
	if n := len(m.list()); n != MaxMembers {
		t.Errorf("%d members, limit %d", n, MaxMembers)
	}
	m.NotifyLeave(node(0, nil)) // a known name still changes
	dead := 0
	for _, member := range m.list() {
		if member.State == Dead {
			dead++
		}
	}
	if dead != 1 {
		t.Errorf("%d dead, want 1", dead)
	}
}

func TestDelegatesRefuse(t *testing.T) {
	known := node(1, nil)
	m := newMembers(identity.NodeID{}, func(id identity.NodeID) bool { return id.String() == known.Name })
	for what, n := range map[string]*memberlist.Node{
		"no NodeID": {Name: "host-7"}, "unknown": node(2, nil), "metadata": node(1, make([]byte, MaxHint+1)),
	} {
		if m.NotifyAlive(n) == nil {
			t.Errorf("%s: accepted", what)
		}
	}
	if err := m.NotifyAlive(node(1, []byte("of a later release"))); err != nil {
		t.Errorf("a hint of another version: %v", err)
	}
	if err := m.NotifyMerge([]*memberlist.Node{node(2, nil), known}); err != nil {
		t.Errorf("merge with one known name: %v", err)
	}
	if m.NotifyMerge([]*memberlist.Node{node(2, nil)}) == nil {
		t.Error("merge without a known name accepted")
	}
	if m.NotifyMerge(append(make([]*memberlist.Node, MaxMembers), known)) == nil {
		t.Error("merge of too many names accepted")
	}
}
