package slots

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func at(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }

func source4(i int) Source {
	return SourceOf(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}))
}

func source6(text string) Source { return SourceOf(netip.MustParseAddr(text)) }

func strangers(r Rule) *Slots { return New([classes]Rule{Stranger: r}) }

// arrive lets n connections of a source come with a whole hello.
func arrive(a *Slots, n int, from Source) (all []*Ticket) {
	for range n {
		t := &Ticket{}
		a.Enter(t, Stranger, from)
		a.Ready(t, Stranger)
		all = append(all, t)
	}
	return all
}

func slots(t *testing.T, a *Slots, now, granted, overtaken int) []*Ticket {
	t.Helper()
	got, lost := a.Next(at(now), math.MaxInt)
	if len(got) != granted || len(lost) != overtaken {
		t.Fatalf("at %d ms: %d granted and %d overtaken, want %d and %d", now, len(got), len(lost), granted, overtaken)
	}
	return got
}

func TestPerSource(t *testing.T) { // I10
	a := strangers(Rule{Slots: 8, PerSource: 2, Room: 100})
	arrive(a, 5, source4(1))
	slots(t, a, 0, 2, 0)
	slots(t, a, 699, 0, 0) // Grace
	slots(t, a, 700, 2, 2)
	if !a.Waiting() {
		t.Error("nobody waits")
	}
	slots(t, a, 1400, 1, 1)
	if a.Waiting() {
		t.Error("somebody waits")
	}
}

// TestPrefixShares: all of a /48 has the slots of one source, its /56s by turns;
// the last to come goes first.
func TestPrefixShares(t *testing.T) {
	a := strangers(Rule{Slots: 100, PerSource: 3, Room: 100})
	loud := arrive(a, 5, source6("2001:db8:1:100::1"))
	quiet := arrive(a, 1, source6("2001:db8:1:200::1"))
	other := arrive(a, 1, source6("2001:db8:2::1"))
	got := slots(t, a, 0, 4, 0)
	for _, want := range []*Ticket{loud[4], quiet[0], loud[3], other[0]} {
		if !contains(got, want) {
			t.Errorf("%p has no slot", want)
		}
	}
}

// TestPartIsA56: who has a /56 has many /64s, and one turn for all of them.
func TestPartIsA56(t *testing.T) {
	a := strangers(Rule{Slots: 100, PerSource: 2, Room: 100})
	for _, loud := range []string{"2001:db8:1:100::1", "2001:db8:1:101::1", "2001:db8:1:1ff::1"} {
		arrive(a, 1, source6(loud))
	}
	quiet := arrive(a, 1, source6("2001:db8:1:200::1"))
	if got := slots(t, a, 0, 2, 0); !contains(got, quiet[0]) {
		t.Error("the /64s of one customer took all turns")
	}
}

func contains(all []*Ticket, want *Ticket) bool {
	for _, t := range all {
		if t == want {
			return true
		}
	}
	return false
}

func TestSlotsAreBounded(t *testing.T) { // I10
	a := strangers(Rule{Slots: 4, PerSource: 2, Room: 100})
	for i := range 5 {
		arrive(a, 2, source4(i))
	}
	first := slots(t, a, 0, 4, 0)
	for i, from := range []Source{source4(0), source4(1), source4(2), source4(3)} {
		if first[i].source.key.Whole != from.Whole {
			t.Errorf("slot %d went to %v: not by turns", i, first[i].source.key)
		}
	}
	a.Done(first[0])
	if got := slots(t, a, 10, 1, 0)[0]; got.source.key.Whole != source4(4).Whole {
		t.Errorf("the free slot went to %v, who has had one", got.source.key)
	}
}

// TestRoom: a full room refuses nobody who is new; whoever fills it loses the
// oldest that it has, and Done keeps the place.
func TestRoom(t *testing.T) { // I10
	a := strangers(Rule{Slots: 8, PerSource: 8, Room: 4})
	loud := arrive(a, 3, source4(1))
	quiet := &Ticket{}
	if a.Enter(quiet, Stranger, source4(2)) != nil {
		t.Fatal("the room is full too early")
	}
	if got := a.Enter(&Ticket{}, Stranger, source4(3)); got != loud[0] {
		t.Error("not the oldest of the loudest had to go")
	}
	got := slots(t, a, 0, 2, 0)
	a.Done(got[0])
	a.Done(got[1])
	if got := a.Enter(&Ticket{}, Stranger, source4(4)); got == nil || got == quiet {
		t.Error("those whose handshake is done have no place in the room")
	}
	a.Prove(got[1], 0)
	if got := a.Enter(&Ticket{}, Stranger, source4(5)); got != nil {
		t.Error("one that proved itself counts")
	}
}

// TestNodeThatLies: one that names a new address for each connection has one turn, and
// in a full room its own have to go.
func TestNodeThatLies(t *testing.T) {
	a := strangers(Rule{Slots: 100, PerSource: 8, Room: 50, Rate: 1, Burst: 3})
	var names []*Ticket
	for i := range 49 {
		names = append(names, arrive(a, 1, source4(i).Through("liar"))...)
	}
	through := arrive(a, 1, source4(3).Through("honest"))[0]
	if direct := arrive(a, 1, source4(3))[0]; names[0].stage != gone || through.stage != queued || direct.stage != queued {
		t.Fatalf("a full room lost %v, of another node %v, direct %v", names[0].stage, through.stage, direct.stage)
	}
	got := slots(t, a, 0, 3, 0)
	vias := map[string]int{}
	for _, one := range got {
		vias[one.source.key.Via]++
	}
	if vias["liar"] != 1 || vias["honest"] != 1 || vias[""] != 1 {
		t.Errorf("turns %v", vias)
	}
}

// TestAddressIsOfWhoNamesIt: what a node says of an address costs the one who has it
// neither slots nor budget elsewhere.
func TestAddressIsOfWhoNamesIt(t *testing.T) {
	a := strangers(Rule{Slots: 100, PerSource: 2, Room: 100, EachRate: 1, EachBurst: 2})
	arrive(a, 9, source4(1).Through("liar"))
	slots(t, a, 0, 2, 0)
	arrive(a, 2, source4(1))
	arrive(a, 2, source4(1).Through("honest"))
	slots(t, a, 10, 4, 0)
}

// TestBudget: when it is spent all wait, and sources have it by turns.
func TestBudget(t *testing.T) { // I10
	a := strangers(Rule{Slots: 100, PerSource: 50, Room: 1000, Rate: 10, Burst: 2})
	arrive(a, 20, source4(1))
	slots(t, a, 0, 2, 0)
	quiet := arrive(a, 1, source4(2))[0]
	slots(t, a, 50, 0, 0)
	slots(t, a, 100, 1, 0)
	if got := slots(t, a, 200, 1, 0)[0]; got != quiet {
		t.Error("the quiet one waits for the loud one's whole queue")
	}
}

// TestBudgetOfASource: who proves itself gets its token back, strangers run dry,
// and wait.
func TestBudgetOfASource(t *testing.T) { // I10
	a := strangers(Rule{Slots: 100, PerSource: 100, Room: 1000, EachRate: 10, EachBurst: 4})
	all := arrive(a, 6, source4(1))
	slots(t, a, 0, 4, 0)
	arrive(a, 1, source4(2))
	slots(t, a, 0, 1, 0)
	a.Prove(all[5], at(10))
	slots(t, a, 10, 1, 0)
	slots(t, a, 20, 0, 0)
	slots(t, a, 110, 1, 0)
}

func TestBucketsAreBounded(t *testing.T) { // I10
	var b buckets
	r := Rule{EachRate: 1, EachBurst: 1}
	loud := source4(0)
	b.take(loud, 0, r)
	for i := 1; i <= MaxSources; i++ { // a flood turns the young generation old
		b.take(source4(i), 0, r)
	}
	if b.has(loud, 0, r) {
		t.Error("one flood of other sources refilled the bucket")
	}
	for i := range 4 * MaxSources {
		b.take(source4(i), 0, r)
	}
	if n := len(b.young) + len(b.old); n > 2*MaxSources {
		t.Errorf("%d sources remembered, limit %d", n, 2*MaxSources)
	}
}

// TestReadyMoves: a relay is told from a node's other connections by its hello.
func TestReadyMoves(t *testing.T) {
	rule := Rule{Slots: 1, PerSource: 1, Room: 1}
	a := New([classes]Rule{Member: rule, Relay: rule})
	relay, stream := &Ticket{}, &Ticket{}
	a.Enter(relay, Member, source4(1))
	a.Ready(relay, Relay)
	if a.Enter(stream, Member, source4(1)) != nil {
		t.Error("a relay takes the room of a node's stream")
	}
	a.Ready(stream, Member)
	if got, _ := a.Next(0, math.MaxInt); len(got) != 2 || relay.Class() != Relay || stream.Class() != Member {
		t.Errorf("%d slots, classes %d and %d", len(got), relay.Class(), stream.Class())
	}
}

func TestMemory(t *testing.T) { // I10
	var m Memory
	v4, v6, neighbour, far := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8:0:1::1")
	m.Remember(v4, Member, 0)
	m.Remember(v4, Known, 0)
	m.Remember(v6, Known, 0)
	for a, want := range map[netip.Addr]Class{v4: Member, v6: Known, neighbour: Known, far: Stranger, {}: Stranger} {
		if got := m.Class(a, Remembered); got != want {
			t.Errorf("%v is %d, want %d", a, got, want)
		}
	}
	if m.Class(v4, Remembered+1) != Stranger {
		t.Error("remembered too long")
	}
	m.Remember(v6, Member, 0)
	if m.Class(neighbour, 0) != Known {
		t.Error("a node's neighbours are taken for nodes")
	}
	for i := range 4 * MaxSources {
		m.Remember(source4(i).Whole.Addr(), Known, 0)
	}
	if n := len(m.young) + len(m.old); n > 2*MaxSources {
		t.Errorf("%d addresses remembered, limit %d", n, 2*MaxSources)
	}
}

func TestSiege(t *testing.T) { // I10
	var s Siege
	for i := range SiegeFrom - 1 {
		s.Refused(source4(i%3), at(1000))
	}
	if _, under := s.Report(at(1000)); under {
		t.Error("too early")
	}
	s.Refused(source4(7), at(2000))
	want := Report{Since: at(1000), Refused: SiegeFrom, Sources: 4}
	if r, under := s.Report(at(2000) + CalmAfter); !under || r != want {
		t.Errorf("%+v, %t; want %+v", r, under, want)
	}
	if _, under := s.Report(at(2001) + CalmAfter); under {
		t.Error("not over")
	}
	for i := range MaxSources + 5 {
		s.Refused(source4(i), time.Hour)
	}
	if r, _ := s.Report(time.Hour); r.Since != time.Hour || r.Sources != MaxSources || !r.Many {
		t.Errorf("%+v", r)
	}
}

// TestNobodyStarves: whatever the loud do, for many seeds, limits hold and a quiet
// source that comes now and then has its slot at once.
func TestNobodyStarves(t *testing.T) {
	for seed := range uint64(40) {
		x := rand.New(rand.NewPCG(seed, 1))
		rule := Rule{Slots: 1 + x.IntN(20), PerSource: 1 + x.IntN(8), Room: 40 + x.IntN(200), Rate: 100, Burst: 50}
		w := &storm{T: t, x: x, rule: rule, a: strangers(rule), loud: 1 + x.IntN(30), granted: map[*Ticket]int{}}
		for ms := 0; ms < 20_000; ms += 20 {
			w.tick(ms)
		}
		// Everybody has one turn, as fast as slots and budget come back.
		turns := w.loud + 4
		most := turns*int(Grace.Milliseconds()+20)/rule.Slots + turns*1000/int(rule.Rate) + 500
		if w.slowest > most || w.served < 2 {
			t.Errorf("seed %d, %d loud, %+v: a quiet source was served %d times and waited %d ms, want %d at most",
				seed, w.loud, rule, w.served, w.slowest, most)
		}
	}
}

// storm is loud sources that do everything they can, and a quiet one.
type storm struct {
	*testing.T
	x       *rand.Rand
	rule    Rule
	a       *Slots
	loud    int
	all     []*Ticket
	granted map[*Ticket]int
	quiet   *Ticket
	since   int
	slowest int
	served  int
}

func (w *storm) tick(ms int) {
	for range w.x.IntN(60) {
		t := &Ticket{}
		one := w.x.IntN(w.loud)
		w.forget(w.a.Enter(t, Stranger, source4(one).Through([]string{"", "a node"}[one%2])))
		w.all = append(w.all, t)
		if w.x.IntN(4) > 0 {
			w.a.Ready(t, Stranger)
		}
	}
	if w.quiet == nil && ms%500 == 0 {
		w.quiet, w.since = &Ticket{}, ms
		w.forget(w.a.Enter(w.quiet, Stranger, source4(9999)))
		w.a.Ready(w.quiet, Stranger)
	}
	granted, overtaken := w.a.Next(at(ms), math.MaxInt)
	for _, t := range overtaken {
		if at(ms)-at(w.granted[t]) < Grace {
			w.Fatalf("overtaken after %d ms", ms-w.granted[t])
		}
	}
	for _, t := range granted {
		w.granted[t] = ms
		if t == w.quiet {
			w.slowest = max(w.slowest, ms-w.since)
			w.served++
			w.a.Done(t)
			w.a.Prove(t, at(ms))
			w.quiet = nil
		}
	}
	for range w.x.IntN(10) {
		switch t := w.all[w.x.IntN(len(w.all))]; w.x.IntN(3) {
		case 0:
			w.a.Leave(t)
		case 1:
			w.forget(w.a.Done(t))
		case 2:
			w.a.Settle(t)
		}
	}
	w.check()
}

func (w *storm) forget(t *Ticket) {
	if t != nil && t == w.quiet {
		w.Fatal("a quiet source had to go")
	}
}

// check holds the books against the limits, and against each other.
func (w *storm) check() {
	p := &w.a.pools[Stranger]
	room, held := 0, 0
	for _, s := range p.sources {
		if s.held.Len() > w.rule.PerSource {
			w.Fatalf("%d slots of one source, limit %d", s.held.Len(), w.rule.PerSource)
		}
		in := 0
		for _, part := range s.parts {
			in += part.room.Len()
		}
		if in != s.room || s.idle() {
			w.Fatalf("%d in the room, counted %d", in, s.room)
		}
		room, held = room+in, held+s.held.Len()
	}
	sources := 0
	for _, door := range p.doors {
		if sources += door.sources; len(door.fullest) != door.sources || door.sources == 0 {
			w.Fatalf("%d sources of an entrance, listed %d", door.sources, len(door.fullest))
		}
	}
	if sources != len(p.sources) || len(p.fullest) != len(p.doors) {
		w.Fatalf("%d sources, %d by entrance; %d entrances, listed %d", len(p.sources), sources, len(p.doors), len(p.fullest))
	}
	if held != p.shaking.Len() || held > w.rule.Slots || room != p.room || room > w.rule.Room {
		w.Fatalf("%d slots (limit %d, listed %d), %d in the room (limit %d, counted %d)", held, w.rule.Slots, p.shaking.Len(), room, w.rule.Room, p.room)
	}
}

// TestNobodyToGo: a class without any room has nobody to turn out but who comes.
func TestNobodyToGo(t *testing.T) {
	var rules [classes]Rule
	rules[Stranger] = Rule{Slots: 1, PerSource: 1}
	a := New(rules)
	var first, second Ticket
	a.Enter(&first, Stranger, SourceOf(netip.MustParseAddr("192.0.2.1")))
	a.Ready(&first, Stranger)
	if granted, _ := a.Next(0, math.MaxInt); len(granted) != 1 {
		t.Fatalf("%d granted", len(granted))
	}
	if evicted := a.Enter(&second, Stranger, SourceOf(netip.MustParseAddr("192.0.2.1"))); evicted != nil {
		t.Errorf("turned out for another: %+v", evicted)
	}
}
