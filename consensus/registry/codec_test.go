package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"
)

// script is a short history that touches every command.
func script(t testing.TB) []Command {
	f := newFixture(t)
	f.join(1)
	a, b, c, d := f.slice(0, 0), f.slice(0, 1), f.slice(0, 0), f.slice(0, 1)
	b.Epoch, d.Epoch = 2, 3
	commands := []Command{
		{Found: founding()},
		{CreateToken: &CreateToken{Token: Token{ID: "t", Verify: hash, May: anyRoles, Uses: 2, Expires: 50}}},
		{JoinNode: &JoinNode{Token: "t", Node: Node{Key: key(1), Name: "n1"}}},
		{SetRoles: &SetRoles{ID: node(1), Is: RoleAgent}},
		{UpdateNode: &UpdateNode{ID: node(1), Boot: boot(1), Mbit: 9}},
		{PutClient: &PutClient{Client: Client{Name: "alice"}}},
		{PutPolicy: &PutPolicy{Policy: Policy{Headless: 7, Suites: []uint16{2, 1}}}},
		{PutAuthority: &PutAuthority{Authority: Authority{Name: "corp", Roots: [][]byte{{1}}}}},
		{PutClient: &PutClient{Client: Client{Name: "bob", Authority: MeshAuthority, SharedKey: &SharedKey{Stored: hash, Server: hash}}}},
		{PutCertificate: &PutCertificate{Certificate: Certificate{ID: CertificateID{1}, Authority: MeshAuthority, Client: "bob"}}},
		{RevokeAuthority: &RevokeAuthority{Name: "corp"}},
		{OpenSession: f.opening(1, "alice", a)},
		{GrantSlice: &GrantSlice{Session: session(1), Slice: b, Retire: true}},
		{MarkSlice: &MarkSlice{Session: session(1), Epoch: 2, State: SliceUp}},
		{MarkSlices: &MarkSlices{Marks: []MarkSlice{{Session: session(1), Epoch: 2, State: SliceUp}}}},
		{WeighSlices: &WeighSlices{Session: session(1), Weights: []SliceWeight{{Epoch: 2, Weight: 7}}}},
		{ResumeKey: &ResumeKey{Session: session(1), Request: request(3), Key: key(4), Hello: hash}},
		{ResumeKey: &ResumeKey{Session: session(1), Request: request(4), Key: key(4), Hello: hash, Slices: []Slice{d}}},
		{MovePart: &MovePart{Prefix: testPartA, Epoch: 1, Egress: node(1), Second: node(0)}},
		{CountVoters: &CountVoters{Voters: 3}},
		{Enlarge: &Enlarge{}},
		{PutSecrets: &PutSecrets{Generation: 1, Wraps: map[string][]byte{node(1).String(): hash}}},
		{OpenSession: tracked(f.opening(2, "alice", c), 1)},
		{EndSession: &EndSession{Session: session(1), Reason: "bye", Bytes: 3}},
		{AdvanceTick: &AdvanceTick{Elapsed: 9}},
		{RevokeToken: &RevokeToken{ID: "t"}},
		{Reincarnate: &Reincarnate{Incarnation: 2, Epochs: 7}},
		{RemoveNode: &RemoveNode{ID: node(1)}},
		{RevokeClient: &RevokeClient{Name: "alice"}},
		{Acknowledge: &Acknowledge{Agent: node(0), Boot: boot(0), Sessions: []SessionID{session(2)}}},
	}
	for i := range commands {
		commands[i].ID = CommandID{0xc0, byte(i)}
	}
	return commands
}

func TestScriptTouchesEveryCommand(t *testing.T) {
	s, seen := New(), map[reflect.Type]bool{}
	for i, c := range script(t) {
		if err := Apply(s, uint64(i+1), 1, c).Err(); err != nil {
			t.Fatalf("command %d: %v", i, err)
		}
		seen[reflect.TypeOf(c.changes()[0])] = true
	}
	if want := reflect.TypeFor[Command]().NumField() - 1; len(seen) != want {
		t.Fatalf("%d of %d commands; does changes name them all?", len(seen), want)
	}
}

// Replicas that get the same entries agree, whether they ran through, were
// cloned, or came back from a snapshot after every entry.
func TestReplicasAgree(t *testing.T) {
	through, cloned, restored := New(), New(), New()
	for i, c := range script(t) {
		raw, err := EncodeCommand(c)
		if err != nil {
			t.Fatal(err)
		}
		var results []Result
		for _, s := range []*State{through, cloned, restored} {
			decoded, err := DecodeCommand(raw)
			if err != nil {
				t.Fatal(err)
			}
			results = append(results, Apply(s, uint64(i+1), 1, decoded))
		}
		if results[0] != results[1] || results[0] != results[2] {
			t.Fatalf("command %d: %+v", i, results)
		}
		if !alike(through, cloned) || !alike(through, restored) {
			t.Fatalf("replicas part after command %d", i)
		}
		cloned = cloned.Clone()
		restored = roundTrip(t, restored)
	}
}

// alike reports whether two states say the same; how their trees grew does not count.
func alike(a, b *State) bool { return reflect.DeepEqual(a.plain(), b.plain()) }

// TestClonesStandStill: whatever commands do after a clone, it stays what it was.
func TestClonesStandStill(t *testing.T) {
	r := newRun(t, 7)
	for range 150 {
		clone, was := r.s.Clone(), text(t, r.s)
		r.step()
		if now := text(t, clone); now != was {
			t.Fatalf("after entry %d a clone is another one%s", r.s.Index, difference(was, now))
		}
	}
}

func text(t *testing.T, s *State) string {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func roundTrip(t *testing.T, s *State) *State {
	t.Helper()
	raw, err := EncodeSnapshot(s)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeSnapshot(raw)
	if err != nil {
		t.Fatal(err)
	}
	if !alike(s, back) {
		t.Fatal("a snapshot comes back as another state")
	}
	return back
}

func TestSnapshotOfLongHistory(t *testing.T) {
	r := newRun(t, 99)
	for range 600 {
		r.step()
	}
	roundTrip(t, r.s)
}

// refusesDamage tries what a disk may make of a snapshot.
func refusesDamage(t *testing.T, raw []byte) {
	t.Helper()
	for n := range raw { // every truncation
		if _, err := DecodeSnapshot(raw[:n]); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	for i := range raw { // every byte flipped
		bad := bytes.Clone(raw)
		bad[i] ^= 0x20
		if _, err := DecodeSnapshot(bad); !errors.Is(err, ErrSnapshot) && !errors.Is(err, ErrSnapshotNewer) {
			t.Fatalf("byte %d: %v", i, err)
		}
	}
	if _, err := DecodeSnapshot(append(bytes.Clone(raw), 0)); !errors.Is(err, ErrSnapshot) {
		t.Fatal("a trailing byte passes")
	}
}

func TestDamagedSnapshot(t *testing.T) {
	f := newFixture(t)
	raw, err := EncodeSnapshot(f.s)
	if err != nil {
		t.Fatal(err)
	}
	refusesDamage(t, raw)
	newer := bytes.Clone(raw)
	newer[4] = SnapshotVersion + 1
	if _, err := DecodeSnapshot(newer); !errors.Is(err, ErrSnapshotNewer) {
		t.Fatal("a newer version passes")
	}
}

// A snapshot with a right checksum over a wrong state is refused too.
func TestInconsistentSnapshot(t *testing.T) {
	for name, spoil := range map[string]func(*plain){
		"nil node":            func(p *plain) { p.Nodes[node(0)] = nil },
		"foreign node":        func(p *plain) { p.Nodes[node(7)] = p.Nodes[node(0)] },
		"nil token":           func(p *plain) { p.Tokens["x"] = nil },
		"nil client":          func(p *plain) { p.Clients["x"] = nil },
		"nil authority":       func(p *plain) { p.Authorities = map[string]*Authority{"x": nil} },
		"nil certificate":     func(p *plain) { p.Certificates[CertificateID{1}] = nil },
		"foreign certificate": func(p *plain) { p.Certificates[CertificateID{1}] = &Certificate{} },
		"nil lease":           func(p *plain) { p.Leases[PathTestAddress(testPool)] = nil },
		"lost lease":          func(p *plain) { p.Leases[PathTestAddress(testPool)] = &Lease{Session: session(1)} },
		"nil session":         func(p *plain) { p.Sessions[session(1)] = nil },
		"foreign session":     func(p *plain) { p.Sessions[session(1)] = &Session{ID: session(2)} },
		"lost request":        func(p *plain) { p.Requests[request(1)] = session(1) },
		"token unburned":      func(p *plain) { p.Tokens["tok"] = &Token{} },
	} {
		t.Run(name, func(t *testing.T) {
			p := newFixture(t).s.plain()
			spoil(p)
			body, err := json.Marshal(p)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeSnapshot(sealSnapshot(4, body)); !errors.Is(err, ErrSnapshot) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestDecodeCommand(t *testing.T) {
	const id = `"id":"01000000000000000000000000000000"`
	const good = "mcrc\x01{" + id + `,"advance_tick":{"elapsed":3}}`
	for name, tc := range map[string]struct {
		raw  string
		want error
	}{
		"good":          {good, nil},
		"the largest":   {good + strings.Repeat(" ", MaxCommand-len(good)), nil}, // I10
		"a byte larger": {good + strings.Repeat(" ", MaxCommand-len(good)+1), ErrMalformed},
		"unknown field": {"mcrc\x01{" + id + `,"advance_tick":{"elapsed":3,"x":1},"note":"y"}`, nil},
		"newer version": {"mcrc" + string(rune(CommandVersion+1)) + "anything", ErrNewer},
		"new command":   {"mcrc\x01{" + id + `,"split_part":{"x":1}}`, ErrNewer},
		"version 0":     {"mcrc\x00{}", ErrMalformed},
		"no change":     {"mcrc\x01{" + id + `,"note":"y"}`, ErrMalformed},
		"two changes":   {"mcrc\x01{" + id + `,"advance_tick":{},"revoke_token":{}}`, ErrMalformed},
		"no id":         {"mcrc\x01" + `{"advance_tick":{}}`, ErrMalformed},
		"empty":         {"", ErrMalformed},
		"foreign":       {"abcd\x01{}", ErrMalformed},
		"no JSON":       {"mcrc\x01{", ErrMalformed},
		"wrong type":    {"mcrc\x01{" + id + `,"advance_tick":{"elapsed":"x"}}`, ErrMalformed},
	} {
		c, err := DecodeCommand([]byte(tc.raw))
		if !errors.Is(err, tc.want) || tc.want != nil && !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
		if tc.want == nil && (c.AdvanceTick == nil || c.AdvanceTick.Elapsed != 3) {
			t.Errorf("%s: decoded %+v", name, c)
		}
	}
}

func TestEncodeCommandRefuses(t *testing.T) {
	big := &PutSecrets{Wraps: map[string][]byte{"x": make([]byte, MaxCommand)}}
	for name, c := range map[string]Command{
		"no id":     {AdvanceTick: &AdvanceTick{}},
		"no change": {ID: CommandID{1}},
		"two":       {ID: CommandID{1}, AdvanceTick: &AdvanceTick{}, RevokeToken: &RevokeToken{}},
		"too big":   {ID: CommandID{1}, PutSecrets: big}, // I10
	} {
		if _, err := EncodeCommand(c); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// I11: whatever stands in the log, Apply neither panics nor breaks the state.
func FuzzCommand(f *testing.F) {
	for _, c := range script(f) {
		raw, err := EncodeCommand(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte("mcrc\x06{}"))
	base := New()
	for i, c := range script(f)[:9] {
		Apply(base, uint64(i+1), 1, c)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := DecodeCommand(raw)
		if err != nil {
			return
		}
		first, err := EncodeCommand(c)
		if err != nil {
			t.Fatalf("decoded but not encoded: %v", err)
		}
		again, err := DecodeCommand(first)
		if err != nil {
			t.Fatal(err)
		}
		if second, _ := EncodeCommand(again); !bytes.Equal(first, second) {
			t.Fatalf("%s\n%s", first, second)
		}
		for _, s := range []*State{base.Clone(), New()} {
			Apply(s, 100, 2, c)
			raw, err := EncodeSnapshot(s)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeSnapshot(raw); err != nil {
				t.Fatalf("a command made a state that no replica can restore: %v", err)
			}
		}
	})
}

// The checksum would keep a fuzzer out: the target is also given the JSON alone.
func FuzzSnapshot(f *testing.F) {
	s := New()
	for i, c := range script(f) {
		Apply(s, uint64(i+1), 1, c)
	}
	raw, err := EncodeSnapshot(s)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[snapshotHeader : len(raw)-32])
	f.Add([]byte(`{"nodes":{},"leases":{"10.0.0.1":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, candidate := range [][]byte{raw, sealSnapshot(1, raw), sealSnapshot(SnapshotVersion, raw)} {
			s, err := DecodeSnapshot(candidate)
			if err != nil {
				continue
			}
			first, err := EncodeSnapshot(s)
			if err != nil {
				t.Fatal(err)
			}
			again, err := DecodeSnapshot(first)
			if err != nil {
				t.Fatal(err)
			}
			if second, _ := EncodeSnapshot(again); !bytes.Equal(first, second) {
				t.Fatalf("%s\n%s", first, second)
			}
		}
	})
}

// The package is pure: it reads no clock, no environment, no randomness.
func TestStateIsPlainData(t *testing.T) {
	if _, err := json.Marshal(New()); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		src, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, banned := range []string{`"time"`, `"os"`, `"sync"`, `"log/slog"`, `"net"`, `"math/rand`, `"crypto/rand"`} {
			if bytes.Contains(src, []byte("\t"+banned)) {
				t.Errorf("%s imports %s", file.Name(), banned)
			}
		}
	}
}

func BenchmarkApplyMark(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	f := newFixture(b)
	f.client("alice")
	f.open(1, "alice")
	for range MaxApplied {
		f.must(Command{AdvanceTick: &AdvanceTick{Elapsed: 1}})
	}
	for b.Loop() {
		f.apply(mark(1, 1, []SliceState{SliceUp, SliceVoid}[r.IntN(2)]))
	}
}

// TestSnapshotIsOneOfItsState: the same state is the same bytes, whenever it is written.
func TestSnapshotIsOneOfItsState(t *testing.T) {
	s := New()
	for i, c := range script(t) {
		Apply(s, uint64(i+1), 1, c)
	}
	first, err := EncodeSnapshot(s)
	for range 20 {
		if again, errAgain := EncodeSnapshot(s); err != nil || errAgain != nil || !bytes.Equal(first, again) {
			t.Fatalf("written anew it is another one: %v, %v", err, errAgain)
		}
	}
}
