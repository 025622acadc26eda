package registry

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

// recoverable is a mesh whose registry has the recovery key's public half.
func recoverable(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{t: t, s: New(), term: 1}
	c := founding()
	c.Cluster.Recovery = []byte("recovery")
	f.must(Command{Found: c})
	f.must(Command{CreateToken: &CreateToken{Token: Token{
		ID: "tok", Verify: []byte("v"), May: anyRoles, Uses: MaxUses, Expires: MaxTokenLife}}})
	return f
}

// TestRemovedHolderStaysUntilRenewal: the registry does not forget who could
// open the data key before there is another one.
func TestRemovedHolderStaysUntilRenewal(t *testing.T) {
	f := recoverable(t)
	f.join(1)
	f.must(Command{PutSecrets: &PutSecrets{Generation: 1, Wraps: map[string][]byte{node(1).String(): hash}}})
	f.must(Command{RemoveNode: &RemoveNode{ID: node(1)}})
	if got := f.s.Holders(); len(got) != 2 || !slices.Contains(got, node(1)) {
		t.Fatalf("holders %v", got)
	}
	boxes := map[string]Sealed{"gossip": {Generation: 2, Box: hash}}
	f.refuse(ErrInvalid, Command{PutSecrets: &PutSecrets{
		Generation: 2, Secrets: boxes, Wraps: map[string][]byte{node(0).String(): hash}}}) // none for recovery
	f.must(Command{PutSecrets: &PutSecrets{Generation: 2, Secrets: boxes, Wraps: map[string][]byte{
		node(0).String(): hash, RecoveryWrap: hash}}})
	if got := f.s.Holders(); !slices.Equal(got, []identity.NodeID{node(0)}) || f.s.DataKey != 2 {
		t.Errorf("holders of key %d: %v", f.s.DataKey, got)
	}
}

// TestRecoveryKeyIsGivenOnce: a mesh of before gets it, no mesh gets another.
func TestRecoveryKeyIsGivenOnce(t *testing.T) {
	f := newFixture(t)
	give := func(recovery string) Command {
		return Command{PutSecrets: &PutSecrets{Generation: 1, Recovery: []byte(recovery)}}
	}
	f.refuse(ErrInvalid, give(string(make([]byte, MaxBlob+1)))) // I10
	f.must(give("mine"))
	f.must(give("mine"))
	f.refuse(ErrExists, give("yours"))
	if string(f.s.Cluster.Recovery) != "mine" {
		t.Errorf("recovery key %q", f.s.Cluster.Recovery)
	}
}

// TestLimitsOfSecrets, in one command and in all together (I10).
func TestLimitsOfSecrets(t *testing.T) {
	put := func(from, secrets, wraps int) Command {
		c := &PutSecrets{Generation: 1, Secrets: map[string]Sealed{}, Wraps: map[string][]byte{}}
		for i := range secrets {
			c.Secrets[fmt.Sprint("s", from+i)] = Sealed{Generation: 1}
		}
		for i := range wraps {
			c.Wraps[fmt.Sprint("w", from+i)] = hash
		}
		return Command{PutSecrets: c}
	}
	f := newFixture(t)
	f.s.Secrets, f.s.Wraps = map[string]Sealed{}, map[string][]byte{}
	f.refuse(ErrExhausted, put(0, MaxSecrets+1, 0))
	f.refuse(ErrExhausted, put(0, 0, MaxWraps+1))
	f.must(put(0, MaxSecrets, MaxWraps))
	f.must(put(0, MaxSecrets, MaxWraps))
	f.refuse(ErrExhausted, put(MaxSecrets, 1, 0))
	f.refuse(ErrExhausted, put(MaxWraps, 0, 1))
}

// TestRecoveryKeySurvives a snapshot, and a restore of one that was made before
// the mesh had it.
func TestRecoveryKeySurvives(t *testing.T) {
	f := recoverable(t)
	if s := roundTrip(t, f.s); string(s.Cluster.Recovery) != "recovery" {
		t.Errorf("read back: %q", s.Cluster.Recovery)
	}
	old := newFixture(t).s
	old.Succeed(f.s)
	if string(old.Cluster.Recovery) != "recovery" {
		t.Errorf("restored: %q", old.Cluster.Recovery)
	}
}

// TestOldestVersionThatSaysIt: a build of version 1 reads all that it would
// understand, and stops at what it would not.
func TestOldestVersionThatSaysIt(t *testing.T) {
	plain, keyed := founding(), founding()
	keyed.Cluster.Recovery = []byte("recovery")
	loose := founding()
	loose.Policy.Headless = 0
	for name, tc := range map[string]struct {
		c    Command
		want byte
	}{
		"found of before":   {Command{Found: plain}, 1},
		"found, recovery":   {Command{Found: keyed}, 2},
		"found, headless":   {Command{Found: loose}, 2},
		"policy":            {Command{PutPolicy: &PutPolicy{Policy: Policy{Headless: 7}}}, 1},
		"policy of voters":  {Command{PutPolicy: &PutPolicy{}}, 2},
		"secrets":           {Command{PutSecrets: &PutSecrets{Generation: 1}}, 1},
		"secrets, recovery": {Command{PutSecrets: &PutSecrets{Generation: 1, Recovery: hash}}, 2},
		"voters":            {Command{CountVoters: &CountVoters{Voters: 3}}, 2},
	} {
		tc.c.ID = CommandID{1}
		raw, err := EncodeCommand(tc.c)
		if err != nil || raw[len(commandMagic)] != tc.want {
			t.Errorf("%s: version %d, want %d; %v", name, raw[len(commandMagic)], tc.want, err)
		}
	}
	s := newFixture(t).s
	s.Voters = 0
	for want := byte(1); want <= 2; want++ {
		raw, err := EncodeSnapshot(s)
		if err != nil || raw[len(snapshotMagic)] != want {
			t.Errorf("snapshot: version %d, want %d; %v", raw[len(snapshotMagic)], want, err)
		}
		back, err := DecodeSnapshot(raw)
		if err != nil || back.Voters != s.Voters || !bytes.Equal(back.Cluster.Recovery, s.Cluster.Recovery) {
			t.Errorf("read back: %+v, %v", back, err)
		}
		s.Voters = 3
	}
}
