package slots

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// crowd is many clients, each from an address of its own, who all want to be let in, by a
// host that lets in so many a second. Time is virtual, in steps of 10 ms.
type crowd struct {
	a        *Slots
	rate     int // a second, of those at work
	most     int // at work at once
	over     int // ms in which all come at first
	appoints bool

	x      *rand.Rand
	work   []*guest
	late   map[*guest]int // when it gives up, ms
	tries  int
	served int
	more   []*guest // beside those that run makes
}

// guest is one of them.
type guest struct {
	ticket Ticket
	source Source
	comes  int // ms
	tries  int
	wait   int  // before it comes again where nobody told it when
	queues bool // it takes no appointment
	in     int  // when it was let in, ms
}

const step = 10

// run lets all come, and gives when all were in.
func (w *crowd) run(t *testing.T, guests, limit int) (all []*guest, took int) {
	w.x, w.late = rand.New(rand.NewPCG(1, 2)), make(map[*guest]int)
	for i := range guests {
		all = append(all, &guest{source: source4(i), comes: w.x.IntN(w.over), wait: 400})
	}
	all, guests = append(all, w.more...), guests+len(w.more)
	owed := 0
	for ms := 0; w.served < guests; ms += step {
		if ms > limit {
			t.Fatalf("%d of %d were let in after %v, by %d connections", w.served, guests, at(ms), w.tries)
		}
		for _, g := range all {
			if g.comes == ms/step*step || g.comes > ms && g.comes < ms+step {
				w.arrive(g, ms)
			}
		}
		granted, overtaken := w.a.Next(at(ms), w.most-len(w.work))
		if len(overtaken) > 0 {
			t.Fatal("work was thrown away")
		}
		for _, ticket := range granted {
			w.begin(ticket, ms)
		}
		for owed += w.rate * step; owed >= 1000; owed -= 1000 {
			w.finish()
		}
		for g, end := range w.late {
			if ms >= end {
				w.leaves(g, ms)
			}
		}
		took = ms
	}
	return all, took
}

func (w *crowd) arrive(g *guest, ms int) {
	g.tries++
	w.tries++
	w.a.Enter(&g.ticket, Known, g.source)
	if w.appoints && !g.queues {
		if in := w.a.Appoint(&g.ticket, at(ms)); in > 0 {
			w.told(g, ms, in)
			return
		}
	}
	w.a.Ready(&g.ticket, Known)
	w.late[g] = ms + 2500
}

// told: it comes when it was told, or up to an eighth later.
func (w *crowd) told(g *guest, ms int, in time.Duration) {
	w.a.Leave(&g.ticket)
	delete(w.late, g)
	wait := int(in.Milliseconds())
	g.comes = ms + step + wait + w.x.IntN(wait/8+1)
}

func (w *crowd) leaves(g *guest, ms int) {
	in := w.a.Postpone(&g.ticket, at(ms))
	if w.appoints {
		w.told(g, ms, in)
		return
	}
	w.a.Leave(&g.ticket)
	delete(w.late, g)
	g.comes = ms + step + g.wait/2 + w.x.IntN(g.wait/2)
	g.wait = min(2*g.wait, 5000)
}

func (w *crowd) begin(ticket *Ticket, ms int) {
	for g := range w.late {
		if &g.ticket == ticket {
			delete(w.late, g)
			g.in = ms
			w.work = append(w.work, g)
			w.a.Done(ticket)
			w.a.Prove(ticket, 0)
			return
		}
	}
}

func (w *crowd) finish() {
	if len(w.work) > 0 {
		w.work = w.work[1:]
		w.served++
	}
}

// newCrowd is at a host that is expected to let in 100 a second, and lets in rate.
func newCrowd(rate int, appoints bool) *crowd {
	return &crowd{a: New([classes]Rule{Known: {
		Slots: 256, PerSource: 8, Room: 1 << 16, Rate: 600, Burst: 600, Expected: 100,
	}}), rate: rate, most: 128, appoints: appoints}
}

// TestCrowdIsLetIn: twenty times as many as can be let in a second come at once. All are in
// after little more than it takes, each by two connections; a host that is slower than it was
// taken to be needs four of some, and so does a crowd that lasts for longer than Near. One that
// is faster shows it while they come: clients at rest find out within client.ParkedTurn. Where
// nobody tells them when to come again they are many.
func TestCrowdIsLetIn(t *testing.T) {
	for _, c := range []struct {
		rate, guests, over, within int // s
		appoints                   bool
		most                       int
	}{
		{100, 2000, 1, 22, true, 2}, {60, 1200, 1, 30, true, 4}, {25, 600, 1, 40, true, 4}, {300, 6000, 20, 22, true, 2}, {100, 10_000, 20, 105, true, 4},
		{100, 2000, 1, 40, false, 9},
	} {
		w := newCrowd(c.rate, c.appoints)
		w.over = c.over * 1000
		all, took := w.run(t, c.guests, c.within*1000)
		most := 0
		for _, g := range all {
			most = max(most, g.tries)
		}
		t.Logf("%+v: %.2f connections each, %d at most, in %d ms", c, float64(w.tries)/float64(c.guests), most, took)
		if few := most <= c.most && 10*w.tries <= 25*c.guests; few != c.appoints {
			t.Errorf("%+v: %d connections, %d of one", c, w.tries, most)
		}
	}
}

// TestWhoQueuesIsIn soon, though thousands have their appointments, and they come no later for
// it: clients with packets that nobody carries take none (client.Client.stuck).
func TestWhoQueuesIsIn(t *testing.T) {
	const guests = 2000
	_, alone := crowdOf(t, guests, 0)
	all, took := crowdOf(t, guests, 100)
	for _, g := range all[guests:] {
		if g.tries != 1 || g.in-g.comes > 1500 {
			t.Errorf("it came at %d ms and was in at %d, by %d connections", g.comes, g.in, g.tries)
		}
	}
	if took > alone+2000 {
		t.Errorf("all were in after %d ms, without those after %d", took, alone)
	}
}

// crowdOf is so many guests who come at once, and others behind them, ten a second, who queue.
func crowdOf(t *testing.T, guests, queue int) (all []*guest, took int) {
	w := newCrowd(100, true)
	w.over = 1000
	for i := range queue {
		w.more = append(w.more, &guest{source: source4(guests + i), comes: 2000 + 100*i, queues: true})
	}
	return w.run(t, guests, 60_000)
}

// loaded is a port at which so many sources wait, of a rule that expects 100 turns a second.
func loaded(sources int) *Slots {
	a := New([classes]Rule{Stranger: {Slots: 8, PerSource: 8, Room: 1 << 16, Rate: 100, Expected: 100, EachRate: 50, EachBurst: 200}})
	for i := range sources {
		arrive(a, 1, source4(i))
	}
	return a
}

// ask is what a connection of a source is told, which goes then.
func ask(a *Slots, from Source, ms int) time.Duration {
	t := &Ticket{}
	a.Enter(t, Stranger, from)
	defer a.Leave(t)
	return a.Appoint(t, at(ms))
}

// TestLoudSourceMovesNobody: who comes a thousand times has one appointment of the port's
// pace, the rest by his own, and none is told more than MaxWait. Who waits in masses at one
// address makes nobody else wait.
func TestLoudSourceMovesNobody(t *testing.T) {
	a := loaded(1)
	arrive(a, 5000, source4(0))
	if in := ask(a, source4(9000), 0); in != 0 {
		t.Errorf("one that has the next turn but one is told to come in %v", in)
	}
	a = loaded(500)
	first := ask(a, source4(9001), 0)
	for range 10_000 {
		if in := ask(a, source4(9002), 0); in <= 0 || in > MaxWait {
			t.Fatalf("told %v", in)
		}
	}
	if second := ask(a, source4(9003), 0); first < 5*time.Second || second-first > 100*time.Millisecond {
		t.Errorf("told %v before a loud one came, %v after", first, second)
	}
}

// TestAppointmentIsKept: who comes by it queues, once; who comes early is told what is left.
func TestAppointmentIsKept(t *testing.T) {
	a := loaded(500)
	in := int(ask(a, source4(9001), 0).Milliseconds()) + 1
	if early := ask(a, source4(9001), in/2); early < at(in/2-2) {
		t.Errorf("early: told %v of %d ms", early, in)
	}
	if due := ask(a, source4(9001), in); due != 0 {
		t.Errorf("on time: told %v", due)
	}
}

// TestBookingsAreBounded: they are forgotten, and there are never more than two generations.
func TestBookingsAreBounded(t *testing.T) { // I10
	var b bookings
	for i := range 5 * MaxSources {
		b.note(SourceOf(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), 0, 0)
	}
	if n := len(b.young) + len(b.old); n > 2*MaxSources {
		t.Errorf("%d bookings", n)
	}
	b = bookings{}
	b.note(source4(1), at(1), 0)
	if b.keeps(source4(1), at(1)+MaxWait, 0) {
		t.Error("an appointment holds for ever")
	}
}

// TestFewAreLetIn at once, strangers and known by turns; one that is not young any more
// counts no longer.
func TestFewAreLetIn(t *testing.T) { // I10
	r := Rule{Slots: 100, PerSource: 8, Room: 100}
	a := New([classes]Rule{Stranger: r, Known: r})
	for i := range 10 {
		a.Enter(&Ticket{}, Known, source4(i))
		known := &Ticket{}
		a.Enter(known, Known, source4(100+i))
		a.Ready(known, Known)
	}
	strangers := arrive(a, 10, source4(200))
	granted, _ := a.Next(0, 6)
	of := map[Class]int{}
	for _, g := range granted {
		of[g.class]++
	}
	if of[Known] != 3 || of[Stranger] != 3 {
		t.Errorf("let in: %v", of)
	}
	a.Done(granted[0])
	if granted, _ := a.Next(1, 6); len(granted) != 0 {
		t.Error("one that is not proved yet made room")
	}
	a.Prove(granted[0], 1)
	if granted, _ := a.Next(2, 6); len(granted) != 1 {
		t.Errorf("%d let in for one that is proved", len(granted))
	}
	if granted, _ := a.Next(Young, 6); len(granted) != 5 {
		t.Errorf("%d let in when others are not young any more", len(granted))
	}
	if a.Leave(strangers[0]); a.young.Len() > 6 {
		t.Errorf("%d are let in", a.young.Len())
	}
}

// TestWhoIsOutHasNoAppointment: one may have to go for others just when its hello is whole.
func TestWhoIsOutHasNoAppointment(t *testing.T) {
	a := loaded(200)
	one := &Ticket{}
	a.Enter(one, Stranger, source4(999))
	a.Leave(one)
	if in := a.Appoint(one, at(0)); in != 0 {
		t.Errorf("it is to come in %v", in)
	}
}

// TestWhoIsPromisedNothingComesLate: beyond the horizon nobody has a turn, and those who are told
// of none must not come before those who have one, nor all at once. It is as far away as the
// crowd is old: what a wrong pace costs is bounded by that.
func TestWhoIsPromisedNothingComesLate(t *testing.T) {
	a, next := loaded(500), 9000
	for _, c := range []struct{ age, most time.Duration }{
		{0, Near}, {20 * time.Second, Near}, {40 * time.Second, 40 * time.Second}, {70 * time.Second, 70 * time.Second}, {130 * time.Second, MaxWait},
	} {
		var told []time.Duration
		for range int(c.most.Seconds()*100) + 100 {
			told = append(told, ask(a, source4(next), int(c.age.Milliseconds())))
			next++
		}
		for i, in := range told[len(told)-90:] {
			if before := told[len(told)-91+i]; in < c.most/2 || in > c.most || (in-before).Abs() < c.most/10 {
				t.Fatalf("a crowd of %v: told %v, the one before %v", c.age, in, before)
			}
		}
	}
	for range int(Near.Seconds()*100) + 100 {
		if in := ask(a, source4(next), 1_000_000); in > Near {
			t.Fatalf("the next crowd is told %v", in)
		}
		next++
	}
}

// TestPaceIsBelieved: at once if it is more than it was, little by little if it is less; what was
// saved up is no pace.
func TestPaceIsBelieved(t *testing.T) {
	r := Rule{Expected: 100, Rate: 200}
	s := speed{pressed: true}
	for i, c := range []struct{ turns, rate int }{{100, 100}, {20, 80}, {20, 65}, {150, 150}, {300, 200}, {0, 150}} {
		s.turns = c.turns
		s.look(time.Duration(i+1)*SpeedOver, true, r)
		if got := int(s.a(r)); got != c.rate {
			t.Errorf("after a second of %d turns it is %d, want %d", c.turns, got, c.rate)
		}
	}
}
