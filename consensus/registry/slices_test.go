package registry

import (
	"slices"
	"testing"
)

func grant(n int, sl Slice, epoch uint32, retire bool) Command {
	sl.Epoch = epoch
	return Command{GrantSlice: &GrantSlice{Session: session(n), Slice: sl, Retire: retire}}
}

func mark(n int, epoch uint32, state SliceState) Command {
	return Command{MarkSlice: &MarkSlice{Session: session(n), Epoch: epoch, State: state}}
}

func TestHandover(t *testing.T) {
	f := newFixture(t)
	f.join(1)
	f.client("alice")
	ses := f.open(1, "alice")
	f.must(mark(1, 1, SliceUp))
	f.refuse(ErrStale, grant(1, f.slice(0, 1), 1, true)) // I3: no second owner of an epoch
	f.refuse(ErrStale, grant(1, f.slice(0, 1), 3, true))
	f.refuse(ErrStale, grant(1, f.slice(7, 1), 2, true))
	f.term = 9
	f.must(grant(1, f.slice(0, 1), 2, true))
	ses = f.s.Sessions.Get(ses.ID)
	if got := ses.Slices[0]; got.Agent != node(1) || got.Index != f.index || got.Term != 9 { // I6
		t.Fatalf("slice %+v", got)
	}
	ses = f.s.Sessions.Get(ses.ID)
	if len(ses.Retiring) != 1 || ses.Retiring[0].Agent != node(0) || ses.Retiring[0].State != SliceUp {
		t.Fatalf("retiring %+v", ses.Retiring)
	}
	f.must(mark(1, 2, SliceUp))
	f.must(mark(1, 1, SliceVoid))
	ses = f.s.Sessions.Get(ses.ID)
	if len(ses.Retiring) != 0 {
		t.Fatal("a void retired epoch is remembered")
	}
	f.refuse(ErrStale, mark(1, 1, SliceUp))
	f.must(grant(1, f.slice(0, 0), 3, false))
	ses = f.s.Sessions.Get(ses.ID)
	if len(ses.Retiring) != 0 || ses.Slices[0].Epoch != 3 {
		t.Fatalf("session %+v", ses)
	}
	f.must(mark(1, 3, SliceVoid))
	f.refuse(ErrStale, mark(1, 3, SliceUp)) // void is for good
	f.refuse(ErrInvalid, mark(1, 3, SliceGranted))
	f.must(grant(1, f.slice(0, 0), 4, true))
	ses = f.s.Sessions.Get(ses.ID)
	if len(ses.Retiring) != 0 {
		t.Fatal("a void epoch retires")
	}
	f.must(grant(1, f.slice(5, 1), 1, false))
	if ses = f.s.Sessions.Get(ses.ID); len(ses.Slices) != 2 {
		t.Fatalf("slices %+v", ses.Slices)
	}
}

func TestRetiringLimit(t *testing.T) { // I10
	f := newFixture(t)
	f.client("alice")
	f.open(1, "alice")
	for e := range uint32(MaxRetiring) {
		f.must(grant(1, f.slice(0, 0), e+2, true))
	}
	f.refuse(ErrExhausted, grant(1, f.slice(0, 0), MaxRetiring+2, true))
	f.must(grant(1, f.slice(0, 0), MaxRetiring+2, false))
}

func TestNewBootVoidsTheOld(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	ses := f.open(1, "alice")
	old := ses.Slices[0]
	f.must(Command{UpdateNode: &UpdateNode{ID: node(0), Boot: old.Boot, Mbit: 5}})
	if f.s.Sessions.Get(ses.ID).Slices[0].State != SliceGranted {
		t.Fatal("the same boot voided its slice")
	}
	f.must(Command{UpdateNode: &UpdateNode{ID: node(0), Boot: boot(50)}})
	if f.s.Sessions.Get(ses.ID).Slices[0].State != SliceVoid {
		t.Fatal("a slice outlived its boot")
	}
	f.refuse(ErrStale, grant(1, f.slice(0, 0), 2, false))
	f.refuse(ErrStale, Command{UpdateNode: &UpdateNode{ID: node(0), Boot: old.Boot}})
	same := old
	same.Boot = boot(50)
	f.must(grant(1, same, 2, false)) // the SPI is another process's now
}

func TestPastBootsLimit(t *testing.T) { // I10
	f := newFixture(t)
	for i := range MaxPastBoots + 5 {
		f.must(Command{UpdateNode: &UpdateNode{ID: node(0), Boot: boot(i)}})
	}
	if got := len(f.s.Nodes[node(0)].PastBoots); got != MaxPastBoots {
		t.Fatalf("%d past boots", got)
	}
}

// I3: no SPI is granted twice, however many were granted in between, while a
// slice lives on it; the memory stays bounded.
func TestSpentSPIs(t *testing.T) {
	f := newFixture(t)
	f.client("alice")
	living := f.open(1, "alice").Slices[0].SPI
	f.open(2, "alice")
	for e := range uint32(2*MaxSpent + 10) {
		f.must(grant(2, f.slice(0, 0), e+2, false))
		if sp := f.s.spent.Get(node(0)); sp.order.Len() >= sp.kept+2*MaxSpent {
			t.Fatalf("%d SPIs remembered", sp.order.Len())
		}
	}
	reuse := f.slice(3, 0)
	reuse.SPI = living
	f.refuse(ErrPrekey, grant(2, reuse, 1, false))
	reuse.SPI = f.s.Sessions.Get(session(2)).Slices[0].SPI - MaxSpent + 1
	f.refuse(ErrPrekey, grant(2, reuse, 1, false))
}

func TestMovePart(t *testing.T) {
	f := newFixture(t)
	f.join(1)
	f.join(2)
	f.client("alice")
	ses := f.open(1, "alice")
	move := func(epoch uint64, egress, second int) Command {
		return Command{MovePart: &MovePart{Prefix: testPartA, Epoch: epoch, Egress: node(egress), Second: node(second)}}
	}
	f.refuse(ErrStale, move(2, 1, 2))
	f.refuse(ErrNotFound, move(1, 9, 2))
	f.refuse(ErrInvalid, move(1, 1, 1))
	f.must(move(1, 1, 2))
	ses = f.s.Sessions.Get(ses.ID)
	if ses.Egress != node(1) || ses.Second != node(2) || f.s.Parts[0].Epoch != 2 || f.s.Parts[1].Egress != node(0) {
		t.Fatalf("session %+v parts %+v", ses, f.s.Parts)
	}
	f.refuse(ErrStale, move(1, 2, 1)) // compare and set
	f.must(Command{SetRoles: &SetRoles{ID: node(2), Drained: true}})
	f.refuse(ErrStale, move(2, 2, 1))
}

func TestPutSecrets(t *testing.T) {
	f := newFixture(t)
	sealed := func(g uint64) map[string]Sealed { return map[string]Sealed{"ca": {Generation: g, Box: hash}} }
	f.must(Command{PutSecrets: &PutSecrets{Generation: 1, Secrets: sealed(1)}})
	if len(f.s.Secrets) != 2 {
		t.Fatalf("secrets %v", f.s.Secrets)
	}
	f.refuse(ErrStale, Command{PutSecrets: &PutSecrets{Generation: 0}})
	f.refuse(ErrInvalid, Command{PutSecrets: &PutSecrets{Generation: 2, Secrets: sealed(1)}})
	wraps := map[string][]byte{RecoveryWrap: hash}
	f.refuse(ErrInvalid, Command{PutSecrets: &PutSecrets{Generation: 2, Secrets: sealed(2), Wraps: wraps}})
	both := sealed(2)
	both["gossip"] = Sealed{Generation: 2, Box: hash}
	f.refuse(ErrInvalid, Command{PutSecrets: &PutSecrets{Generation: 2, Secrets: both}})
	f.must(Command{PutSecrets: &PutSecrets{Generation: 2, Secrets: both, Wraps: wraps}})
	if f.s.DataKey != 2 || len(f.s.Wraps) != 1 {
		t.Fatalf("data key %d wraps %v", f.s.DataKey, f.s.Wraps)
	}
	many := map[string][]byte{}
	for i := range MaxWraps { // I10
		many[node(i).String()] = hash
	}
	f.refuse(ErrExhausted, Command{PutSecrets: &PutSecrets{Generation: 2, Wraps: many}})
}

func TestDeduplication(t *testing.T) {
	f := newFixture(t)
	c := Command{ID: CommandID{7}, AdvanceTick: &AdvanceTick{Elapsed: 5}}
	first := Apply(f.s, 100, 3, c)
	second := Apply(f.s, 101, 4, c)
	if first != second || f.s.Tick != 5 || f.s.Index != 101 || f.s.Term != 4 {
		t.Fatalf("first %+v second %+v tick %d", first, second, f.s.Tick)
	}
	bad := Command{ID: CommandID{8}, AdvanceTick: &AdvanceTick{}}
	if a, b := Apply(f.s, 102, 4, bad), Apply(f.s, 103, 4, bad); a != b || a.Code != ErrInvalid.Code {
		t.Fatalf("refusals %+v, %+v", a, b)
	}
	if r := Apply(f.s, 104, 4, Command{AdvanceTick: &AdvanceTick{Elapsed: 1}}); r.Code != ErrInvalid.Code {
		t.Fatalf("a command without id: %+v", r)
	}
	f.index = 104
	for range MaxApplied { // I10: the memory is bounded, and the oldest goes first
		f.must(Command{AdvanceTick: &AdvanceTick{Elapsed: 1}})
	}
	if a := f.s.applied; a.results.Len() != MaxApplied || a.numbers.Len() != MaxApplied {
		t.Fatalf("%d remembered, %d found", a.results.Len(), a.numbers.Len())
	}
	if r := Apply(f.s, 9000, 4, c); r.Index != 9000 {
		t.Fatal("a forgotten command kept its result")
	}
}

// TestWeighSlices: weights of present epochs change, and nothing else; one that
// is wrong spoils all.
func TestWeighSlices(t *testing.T) {
	f := newFixture(t)
	f.join(1)
	f.client("alice")
	f.must(Command{OpenSession: f.opening(1, "alice", f.slice(0, 0), f.slice(1, 1))})
	before := slices.Clone(f.s.Sessions.Get(session(1)).Slices)
	weigh := func(weights ...SliceWeight) Command {
		return Command{WeighSlices: &WeighSlices{Session: session(1), Weights: weights}}
	}
	f.must(weigh(SliceWeight{1, 1, 40}, SliceWeight{0, 1, 30}))
	before[0].Weight, before[1].Weight = 30, 40
	if after := f.s.Sessions.Get(session(1)).Slices; !slices.Equal(after, before) {
		t.Errorf("%+v, want %+v", after, before)
	}
	f.refuse(ErrInvalid, weigh())
	f.refuse(ErrInvalid, weigh(SliceWeight{0, 1, 1}, SliceWeight{1, 1, 0}))
	f.refuse(ErrInvalid, weigh(SliceWeight{0, 1, 1}, SliceWeight{1, 1, 1}, SliceWeight{1, 1, 2}))
	f.refuse(ErrStale, weigh(SliceWeight{0, 1, 1}, SliceWeight{1, 2, 9}))
	f.refuse(ErrStale, weigh(SliceWeight{2, 1, 9}))
	f.must(mark(1, 1, SliceVoid))
	f.refuse(ErrStale, weigh(SliceWeight{0, 1, 9}))
	f.end(1)
	f.refuse(ErrEnded, weigh(SliceWeight{1, 1, 9}))
}

// TestMarkSlices: many marks are what each of them would be alone, and what is refused
// of them hinders none.
func TestMarkSlices(t *testing.T) {
	alone, together := newFixture(t), newFixture(t)
	var all []MarkSlice
	for _, f := range []*fixture{alone, together} {
		f.client("alice")
		for n := range 4 {
			f.open(n, "alice")
		}
		f.end(3)
		f.must(mark(2, 1, SliceVoid))
	}
	for _, c := range []Command{
		mark(0, 1, SliceUp), mark(9, 1, SliceUp), mark(1, 2, SliceUp), mark(2, 1, SliceUp), mark(3, 1, SliceUp),
		mark(1, 1, SliceUp), mark(1, 1, SliceGranted), mark(1, 1, SliceVoid),
	} {
		alone.apply(c)
		all = append(all, *c.MarkSlice)
	}
	together.must(Command{MarkSlices: &MarkSlices{Marks: all}})
	for n := range 4 {
		got, want := together.s.Sessions.Get(session(n)).Slices[0].State, alone.s.Sessions.Get(session(n)).Slices[0].State
		if got != want {
			t.Errorf("session %d is %s, one by one it is %s", n, got, want)
		}
	}
	if up := together.s.Sessions.Get(session(0)).Slices[0].State; up != SliceUp {
		t.Errorf("the first is %s", up)
	}
}

func TestMarksLimit(t *testing.T) { // I10
	f := newFixture(t)
	f.client("alice")
	f.open(0, "alice")
	marks := slices.Repeat([]MarkSlice{*mark(0, 1, SliceUp).MarkSlice}, MaxMarks+1)
	f.refuse(ErrInvalid, Command{MarkSlices: &MarkSlices{Marks: marks}})
	f.refuse(ErrInvalid, Command{MarkSlices: &MarkSlices{}})
	c := Command{ID: CommandID{1}, MarkSlices: &MarkSlices{Marks: marks[1:]}}
	if raw, err := EncodeCommand(c); err != nil || raw[len(commandMagic)] != 5 {
		t.Fatalf("version %d, %v", raw[len(commandMagic)], err)
	}
	f.must(c)
}
