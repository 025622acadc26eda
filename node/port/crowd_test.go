package port

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/slots"
)

// town is three nodes of two CPUs that were restarted at once, in virtual time, in steps of
// 10 ms: they are up within 3 s, elect an arbiter, which takes 1 to 2 s, and all clients come
// back, each through its gateway. It is node/slots that decides, by this port's rules; the ports
// themselves, and what a client does beside coming, are not in it.
type town struct {
	rate  float64 // clients that the arbiter's host lets in a second; each takes 50 ms at least
	early float64 // part of that which it does in its first ten seconds
	rest  bool    // half of the clients were parked, and find out within 20 s; the others in 2 s

	random *rand.Rand
	step   int
	due    map[int][]func() // by the step
	gates  []*gate          // the first one is the arbiter's, once it leads
	leads  int              // the step of that
	works  []*comer         // who is let in, and not in yet
	in     int
	dials  int
}

// gate is the port of one node.
type gate struct {
	slots *slots.Slots
	up    int                             // the step of that
	turn  map[*slots.Ticket]func(ok bool) // of those that queue
}

// comer is one client.
type comer struct {
	from    netip.Addr
	gate    int
	often   int           // it was told to come again, in a row
	waited  time.Duration // because of that
	backoff time.Duration
	done    float64
}

const (
	townStep = 10 * time.Millisecond
	second   = int(time.Second / townStep)
	places   = 32 // that clients at work have: those of arbiter.ArrivalsEach
)

func (w *town) now() time.Duration { return time.Duration(w.step) * townStep }

func (w *town) after(d time.Duration, do func()) {
	at := w.step + max(1, int(d/townStep))
	w.due[at] = append(w.due[at], do)
}

// back is how long it takes until all are in.
func (w *town) back(clients int, limit time.Duration) time.Duration {
	w.random, w.due = rand.New(rand.NewPCG(1, 2)), make(map[int][]func())
	for range 3 {
		w.gates = append(w.gates, &gate{slots.New(rules(2, math.MaxInt)), w.random.IntN(3 * second), make(map[*slots.Ticket]func(bool))})
		w.leads = max(w.leads, w.gates[len(w.gates)-1].up)
	}
	w.leads += second + w.random.IntN(second)
	for i := range clients {
		c, over := &comer{from: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), gate: i % 3}, 2*second
		if w.rest && w.random.IntN(2) == 0 {
			over = 20 * second
		}
		w.after(time.Duration(w.random.IntN(over))*townStep, func() { w.comes(c) })
	}
	for ; w.in < clients && w.now() < limit; w.step++ {
		for _, do := range w.due[w.step] {
			do()
		}
		delete(w.due, w.step)
		w.give()
		w.work()
	}
	return w.now()
}

// comes is a client at the next of its gateways that is up.
func (w *town) comes(c *comer) {
	for range w.gates {
		if w.gates[c.gate].up <= w.step {
			w.dials++
			w.enters(c)
			return
		}
		c.gate = (c.gate + 1) % len(w.gates)
	}
	w.fails(c)
}

func (w *town) enters(c *comer) {
	from := slots.SourceOf(c.from)
	if c.gate == 0 && w.step >= w.leads {
		w.queues(c, w.gates[0], from, w.letIn)
		return
	}
	w.queues(c, w.gates[c.gate], from, func(c *comer, t *slots.Ticket) {
		w.relay(c, t, w.now()+RelayWait)
	})
}

// relay passes a client on, as soon as there is an arbiter.
func (w *town) relay(c *comer, t *slots.Ticket, until time.Duration) {
	here := w.gates[c.gate].slots
	switch {
	case w.step >= w.leads:
		here.Done(t)
		w.after(SettleAfter, func() { here.Settle(t) })
		w.queues(c, w.gates[0], slots.SourceOf(c.from).Through(fmt.Sprint(c.gate)), w.letIn)
	case w.now() >= until:
		here.Leave(t)
		w.fails(c)
	default:
		w.after(townStep, func() { w.relay(c, t, until) })
	}
}

// queues has a client wait for its turn at a port, or come again.
func (w *town) queues(c *comer, at *gate, from slots.Source, turn func(*comer, *slots.Ticket)) {
	t := new(slots.Ticket)
	at.lose(at.slots.Enter(t, slots.Stranger, from))
	if in := at.slots.Appoint(t, w.now()); in > 0 {
		at.slots.Leave(t)
		w.told(c, in)
		return
	}
	at.slots.Ready(t, slots.Stranger)
	at.turn[t] = func(ok bool) {
		if ok {
			turn(c, t)
			return
		}
		w.fails(c)
	}
	w.after(WaitTimeout, func() {
		if at.turn[t] == nil {
			return
		}
		delete(at.turn, t)
		in := at.slots.Postpone(t, w.now())
		at.slots.Leave(t)
		w.told(c, in)
	})
}

// lose ends one that has to go; nil is none.
func (g *gate) lose(t *slots.Ticket) {
	if lost := g.turn[t]; lost != nil {
		delete(g.turn, t)
		lost(false)
	}
}

// told is client.backoff's way with an appointment.
func (w *town) told(c *comer, in time.Duration) {
	const often, most, least = 4, 2 * time.Minute, 200 * time.Millisecond
	if c.often >= often || c.waited >= most {
		c.often, c.waited, c.gate = 0, 0, (c.gate+1)%len(w.gates)
	}
	in = max(min(in/waitUnit*waitUnit, most-c.waited), least)
	c.often, c.waited = c.often+1, c.waited+in
	w.after(in+time.Duration(w.random.Int64N(int64(in/8))), func() { w.comes(c) })
}

// fails is its way with an attempt that came to nothing.
func (w *town) fails(c *comer) {
	c.often, c.waited, c.gate = 0, 0, (c.gate+1)%len(w.gates)
	wait := max(c.backoff, 200*time.Millisecond)
	c.backoff = min(2*wait, 5*time.Second)
	w.after(wait/2+time.Duration(w.random.Int64N(int64(wait/2))), func() { w.comes(c) })
}

func (w *town) letIn(c *comer, t *slots.Ticket) {
	w.gates[0].slots.Done(t)
	w.gates[0].slots.Prove(t, w.now())
	w.works = append(w.works, c)
}

// give is giveSlots of all ports that are up.
func (w *town) give() {
	for i, at := range w.gates {
		if at.up > w.step {
			continue
		}
		most := math.MaxInt
		if i == 0 && w.step >= w.leads {
			most = places - len(w.works)
		}
		granted, overtaken := at.slots.Next(w.now(), most)
		for _, t := range overtaken {
			at.lose(t)
		}
		for _, t := range granted {
			turn := at.turn[t]
			delete(at.turn, t)
			turn(true)
		}
	}
}

// work is what the arbiter's host does in one step, for all that it has let in alike.
func (w *town) work() {
	rate := w.rate
	if w.step < w.leads+10*second {
		rate *= w.early
	}
	each := min(rate/float64(second)/float64(len(w.works)), float64(townStep)/float64(50*time.Millisecond))
	working := w.works[:0]
	for _, c := range w.works {
		if c.done += each; c.done < 0.999 {
			working = append(working, c)
		}
	}
	w.in += len(w.works) - len(working)
	w.works = working
}

// TestCrowdIsBack after a restart of all nodes in little more time than it takes to let them in,
// whatever the arbiter's host can do, and though it was slow at first, as one is that elects, and
// turns a whole crowd away. No more than 200 strangers a second are let in (rules).
func TestCrowdIsBack(t *testing.T) {
	for _, c := range []struct {
		rate, early float64
		rest        bool
		clients     int
		within      time.Duration
		dials       float64 // of each
	}{
		{100, 1, false, 300, 8 * time.Second, 1.2},
		{60, 0.25, true, 1000, 38 * time.Second, 2.3},
		{30, 1, false, 3000, 110 * time.Second, 3.5},
		{100, 0.25, false, 3000, 55 * time.Second, 2.7},
		{230, 0.25, false, 3000, 40 * time.Second, 2.4},
		{230, 1, true, 3000, 21 * time.Second, 1.62},
		{100, 1, true, 10_000, 110 * time.Second, 2.9},
		{230, 1, false, 10_000, 60 * time.Second, 2.7},
		{500, 0.25, false, 20_000, 112 * time.Second, 3.3},
	} {
		w := &town{rate: c.rate, early: c.early, rest: c.rest}
		took := w.back(c.clients, 2*c.within)
		each := float64(w.dials) / float64(c.clients)
		t.Logf("%+v: back after %v by %.2f connections each, led after %v", c, took, each, time.Duration(w.leads)*townStep)
		if w.in < c.clients || took > c.within || each > c.dials {
			t.Errorf("%+v: %d are back after %v, by %.2f connections each", c, w.in, took, each)
		}
	}
}
