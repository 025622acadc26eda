package agent

import (
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/consensus/registry"
	"github.com/meshcrypt/meshcrypt/node/probe"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// serves opens the stream of an arbiter that knows of parked sessions, or not, and has it
// say that all is as it was.
func (f *fixture) serves(knows bool) {
	f.Helper()
	f.open()
	f.hear(&protocol.Node{Fence: &protocol.Fence{Incarnation: 1, Term: 5}, Calls: knows})
	v := f.view(3)
	v.Changes, v.Slices = true, f.slices.held()
	f.hear(&protocol.Node{View: v})
}

// asksParked is a probe of a parked client and the age of the word in its answer.
func (c *customer) asksParked(mark probe.Mark) time.Duration {
	c.Helper()
	c.ok(c.pair.SendControl(probe.AskParked(1, 0, mark)))
	_, age, ok := probe.ParseWord(c.control())
	if !ok {
		c.Fatal("the answer is no word")
	}
	return age
}

// calls counts those that came to the client until now.
func (c *customer) calls() (n int) {
	c.Helper()
	buffer := make([]byte, 2048)
	for {
		t, ok := c.socket.TryReceive(buffer)
		if !ok {
			return n
		}
		body, _, _, err := c.pair.In.Open(buffer[:t.Len])
		c.ok(err)
		if body[0] == probe.KindCall {
			n++
		}
	}
}

func (c *customer) id() *protocol.Sessions {
	return &protocol.Sessions{Sessions: []registry.SessionID{c.grant.Session}}
}

// TestWordOfTheArbiter: the answer says how old it is; that of an arbiter which does not
// know of parked clients, or has not said yet what this agent holds, is none.
func TestWordOfTheArbiter(t *testing.T) {
	f := newFixture(t)
	f.serves(true)
	c := f.customer(f.offered()[0], nil).up()
	f.hear(&protocol.Node{Alive: &protocol.Alive{}})
	if age := c.asksParked(9); age != 0 {
		t.Errorf("a word of now is %v old", age)
	}
	f.do(streamLost{f.Agent.stream})
	f.advance(7 * time.Second)
	if age := c.asksParked(9); age != 7*time.Second {
		t.Errorf("the last word is %v old, not 7 s", age)
	}
	f.open()
	f.hear(&protocol.Node{Fence: &protocol.Fence{Incarnation: 1, Term: 5}, Calls: true})
	f.hear(&protocol.Node{Alive: &protocol.Alive{}})
	if age := c.asksParked(9); age != 7*time.Second {
		t.Errorf("an arbiter's word counts before it knows the slice: %v", age)
	}
	f.serves(false)
	f.hear(&protocol.Node{Alive: &protocol.Alive{}})
	if age := c.asksParked(9); age != 7*time.Second {
		t.Errorf("the word of an arbiter counts that does not know of parked clients: %v", age)
	}
	f.until("the client is called, for its arbiter would end its session", func() bool { return c.calls() > 0 })
}

// TestMarkIsReported: at once when it changes, and gone when the client asks as another.
func TestMarkIsReported(t *testing.T) {
	const report = UsageTicks * TickEvery
	f := newFixture(t)
	f.serves(true)
	c := f.customer(f.offered()[0], nil).up()
	f.advance(report)
	f.usages()
	for _, mark := range []probe.Mark{9, 10} {
		c.asksParked(mark)
		f.advance(report)
		if rows, _, _ := f.usages(); rows[c.sliceKey()].Parked != uint64(mark) {
			t.Errorf("reported as %d, not %d", rows[c.sliceKey()].Parked, mark)
		}
	}
	f.serves(true)
	f.advance(report)
	if rows, _, _ := f.usages(); rows[c.sliceKey()].Parked != 10 {
		t.Error("another arbiter does not hear who is parked")
	}
	c.ping()
	f.advance(report)
	if rows, count, _ := f.usages(); count == 0 || rows[c.sliceKey()].Parked != 0 {
		t.Error("a client that asks as any other is parked")
	}
}

// TestCallIsRepeated: at once, again after a while, rarer with time, and no more when the
// client comes, or the arbiter is another.
func TestCallIsRepeated(t *testing.T) {
	f := newFixture(t)
	f.serves(true)
	c := f.customer(f.offered()[0], nil).up()
	c.asksParked(9)
	f.hear(&protocol.Node{Call: c.id()})
	f.until("the client is called at once", func() bool { return c.calls() == 1 })
	f.advance(time.Minute)
	if n := c.calls(); n < 5 || n > 8 {
		t.Errorf("called %d times in a minute", n)
	}
	c.ping()
	f.advance(2 * TickEvery)
	c.asksParked(9)
	f.advance(time.Minute)
	if n := c.calls(); n != 0 || len(f.parking.calls) != 0 {
		t.Errorf("called %d times after it came", n)
	}
	c.asksParked(9)
	f.hear(&protocol.Node{Call: c.id()})
	f.serves(true)
	c.calls()
	f.advance(time.Minute)
	if n := c.calls(); n != 0 {
		t.Errorf("called %d times for an arbiter that is none any more", n)
	}
}

// TestCallBeforeTheClientIsParked: its word is on the way, so it is called a few times.
// A session that this agent does not carry is not noted.
func TestCallBeforeTheClientIsParked(t *testing.T) {
	f := newFixture(t)
	f.serves(true)
	c := f.customer(f.offered()[0], nil).up()
	f.hear(&protocol.Node{Call: &protocol.Sessions{Sessions: []registry.SessionID{c.grant.Session, {99}}}})
	if len(f.parking.calls) != 1 {
		t.Errorf("%d calls are noted", len(f.parking.calls))
	}
	f.advance(time.Minute)
	if n := c.calls(); n != CallLeast {
		t.Errorf("called %d times", n)
	}
}

// TestParkedIsToldRarely: what a client says that is parked is told every ParkedWord, three
// times in its headless time, and at once when it comes.
func TestParkedIsToldRarely(t *testing.T) {
	const report = UsageTicks * TickEvery
	f := newFixture(t)
	f.Agent.rekeyAfter = time.Hour
	f.serves(true)
	c := f.customer(f.offered()[0], nil).up()
	c.asksParked(9)
	f.advance(report)
	f.usages()
	const minutes = 10
	for range minutes {
		f.hear(&protocol.Node{Alive: &protocol.Alive{}})
		c.asksParked(9)
		f.advance(time.Minute)
	}
	if rows, count, _ := f.usages(); count == 0 || count > minutes*60/registry.MaxParkedWord || rows[c.sliceKey()].Parked != 9 {
		t.Errorf("told %d times in %d minutes: %+v", count, minutes, rows)
	}
	c.ping()
	f.advance(report)
	if rows, count, _ := f.usages(); count == 0 || rows[c.sliceKey()].Parked != 0 {
		t.Error("not told that it came")
	}
}
